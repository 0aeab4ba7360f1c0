"""WavLM's pretraining: clusters of clean speech, predicted where it is hidden and drowned."""
