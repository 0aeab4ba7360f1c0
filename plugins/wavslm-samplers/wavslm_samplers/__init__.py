"""Samplers: maps from logits to logits, alone or in a list."""
