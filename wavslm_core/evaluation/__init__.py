"""What a model is worth: audio metrics, n-gram marks for the language model, codebook use, the report."""
