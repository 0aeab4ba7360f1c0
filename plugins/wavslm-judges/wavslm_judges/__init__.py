"""Judges of speech that bring their weights along: DNSMOS, and word errors by offline recognisers."""
