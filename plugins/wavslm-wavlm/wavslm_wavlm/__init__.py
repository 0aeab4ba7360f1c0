"""WavLM for wavslm: full-context and causal streaming encoder, and its upper layers as a backbone."""
