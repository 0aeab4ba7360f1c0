"""Quantizers on vector-quantize-pytorch: scalar, lookup-free, with codebooks, and k-means units."""
