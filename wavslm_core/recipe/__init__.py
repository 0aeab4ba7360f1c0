"""Recipes: what a run is made of and what it does, checked before a weight is read. Imports no torch."""

from __future__ import annotations

from wavslm_core.recipe.data_block import DataConfig
from wavslm_core.recipe.model import CodecCheckpoint, Recipe

__all__ = ["CodecCheckpoint", "DataConfig", "Recipe"]
