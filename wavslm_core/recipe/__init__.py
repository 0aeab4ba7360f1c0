"""Recipes: what a run is made of and what it does, checked before a weight is read. Imports no torch."""
