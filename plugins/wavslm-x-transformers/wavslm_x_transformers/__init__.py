"""A transformer of the x-transformers library as a causal streaming backbone."""
