"""Trained models that fit in a wheel."""
