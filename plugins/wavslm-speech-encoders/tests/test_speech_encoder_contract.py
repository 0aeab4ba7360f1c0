"""The contract of encoders, over all three."""

import pytest

from wavslm_core.data.audio import load_torchaudio
from wavslm_core.testing import contract_tests
from wavslm_speech_encoders.config import HubertConfig, MelConfig, Wav2Vec2Config

SMALL = {"hidden_dims": (16,) * 7, "dim": 32, "ffn_dim": 48, "num_heads": 4, "conv_pos": 16, "layer": 1}
LARGE = {"layer_norm_first": True, "front_end_norm": "layer", "conv_bias": True}

load_torchaudio()
pytest.importorskip("transformers")

TestMel = contract_tests(MelConfig(window_samples=700, bands=20))
TestHubert = contract_tests(HubertConfig.model_validate(SMALL))
TestWav2Vec2 = contract_tests(Wav2Vec2Config.model_validate(SMALL | LARGE))
