"""Where the shared parity models are, and random WavLMs of the transformers library as an oracle."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from wavslm_core.data.audio import load_torchaudio

# Tests are imported without their folder on the path; what lies beside this is theirs alone.
sys.path.insert(0, str(Path(__file__).parent))

SHARED = Path(os.environ.get("WAVSLM_SHARED", Path(__file__).resolve().parents[3] / "../shared"))

SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "conv_dim": (24,) * 7,
    "num_buckets": 40,
    "max_bucket_distance": 80,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
STYLES: dict[str, dict[str, Any]] = {
    "base": {"do_stable_layer_norm": False, "feat_extract_norm": "group"},
    "large": {"do_stable_layer_norm": True, "feat_extract_norm": "layer"},
}


@pytest.fixture(scope="session")
def parity() -> Path:
    folder = SHARED / "parity"
    if not folder.exists():
        pytest.skip(f"no parity models in {folder}; set WAVSLM_SHARED")
    return folder


@pytest.fixture(scope="session")
def make_oracle() -> Any:
    """Return a function that builds a random `transformers.WavLMModel` of a style ("base" or "large")."""
    # Makes torchaudio, which transformers imports, importable where its wheel does not match torch.
    load_torchaudio()
    transformers = pytest.importorskip("transformers")

    def make(style: str, **options: Any) -> Any:
        torch.manual_seed(0)
        config = transformers.WavLMConfig(**{**SMALL, **STYLES[style], **options})
        model = transformers.WavLMModel(config).eval()
        # Fresh models have constant norms and gates; random ones leave nothing untested.
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                torch.nn.init.normal_(parameter, mean=0.5, std=0.5)
            if name.endswith("gru_rel_pos_const"):
                torch.nn.init.normal_(parameter, mean=1.0, std=1.0)
            if name.endswith("rel_attn_embed.weight"):
                torch.nn.init.normal_(parameter)
        return model

    return make
