"""Encoders: log-mel frames without weights, HuBERT and wav2vec 2.0 through transformers."""
