"""Heads with exact log-probabilities: next token, autoregressive inside the chunk, over the bits of codes."""
