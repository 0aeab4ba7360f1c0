"""Registers the backbone `x_transformer`."""

from wavslm_core.plugin import Register, hookimpl
from wavslm_x_transformers.config import XTransformerConfig


@hookimpl
def register_backbones(register: Register) -> None:
    register(XTransformerConfig, "wavslm_x_transformers.backbone:XTransformer")
