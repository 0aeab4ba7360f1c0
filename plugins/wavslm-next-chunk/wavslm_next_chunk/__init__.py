"""Next-chunk prediction, as in WavSLM: a head that predicts several tokens at once."""
