"""`report.html`: one file that tells everything about a run, without a single request to anywhere."""
