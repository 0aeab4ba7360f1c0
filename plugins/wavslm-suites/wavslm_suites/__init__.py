"""Likelihood suites: SALMon, sWUGGY, sBLIMP, Spoken and Topic StoryCloze, ProsAudit, pairs of your own."""
