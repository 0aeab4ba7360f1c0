"""A whole distribution for tests: parts, a corpus, stages and a checkpoint format, in torch-free modules."""
