"""Judges of speech that bring their weights along: DNSMOS, and words as offline recognisers hear them."""
