"""Well-known speech corpora, Hugging Face datasets and WebDataset tars for wavslm."""
