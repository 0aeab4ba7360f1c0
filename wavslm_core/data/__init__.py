"""Audio files, corpora, token stores and the stateless order of batches."""
