"""Small random models of the transformers library, saved as folders in the hub's format."""

from typing import Any

import pytest
import torch

from wavslm_core.data.audio import load_torchaudio

SMALL: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "conv_dim": (24,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
STYLES: dict[str, dict[str, Any]] = {
    "base": {},
    "large": {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True},
}


@pytest.fixture(scope="session")
def make_oracle() -> Any:
    """Return a function that builds a random model of the library: kind, such as "Hubert", and style."""
    # Makes torchaudio, which transformers imports, importable where its wheel does not match torch.
    load_torchaudio()
    transformers = pytest.importorskip("transformers")

    def make(kind: str, style: str, *, model: str = "Model", **options: Any) -> Any:
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(**{**SMALL, **STYLES[style], **options})
        oracle = getattr(transformers, f"{kind}{model}")(config).eval()
        # Fresh models have constant norms; random ones leave nothing untested.
        for parameter in oracle.parameters():
            if parameter.ndim == 1:
                torch.nn.init.normal_(parameter, mean=0.5, std=0.5)
        return oracle

    return make
