"""UTMOS as the hub has it: by names and shapes of the published weights, small and untrained."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wavslm_core.data.audio import load_torchaudio
from wavslm_core.errors import CheckpointError
from wavslm_judges.config import UtmosConfig
from wavslm_judges.utmos import Utmos

RATE_HZ = 16_000
DIM, ABOUT, HIDDEN = 24, 6, 10


class Published(nn.Module):
    """The parts by the names that the published weights have."""

    def __init__(self) -> None:
        super().__init__()
        load_torchaudio()
        transformers = pytest.importorskip("transformers")
        self.config = transformers.Wav2Vec2Config(
            hidden_size=DIM,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            conv_dim=(16,) * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=2,
        )
        self.ssl_encoder = nn.Module()
        self.ssl_encoder.model = transformers.Wav2Vec2Model(self.config)
        self.domain_embedding = nn.Embedding(3, ABOUT)
        self.judge_embedding = nn.Embedding(300, ABOUT)
        self.decoder = nn.LSTM(DIM + 2 * ABOUT, HIDDEN, batch_first=True, bidirectional=True)
        self.classifier = nn.Sequential(
            nn.Linear(2 * HIDDEN, 12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, 1)
        )

    def forward(self, waveform_1S: Tensor, *, domain: int, judge: int) -> Tensor:
        encoder: Any = self.ssl_encoder.model
        features_1TD = encoder(waveform_1S).last_hidden_state
        about = torch.cat([self.domain_embedding.weight[domain], self.judge_embedding.weight[judge]])
        beside_1TD = about.expand(1, features_1TD.shape[1], -1)
        decoded_1TD, _ = self.decoder(torch.cat([features_1TD, beside_1TD], dim=2))
        rating: Tensor = 2 * self.classifier(decoded_1TD).mean() + 3
        return rating


@pytest.fixture(scope="module")
def published() -> Published:
    torch.manual_seed(0)
    return Published().eval()


def write(folder: Path, published: Published, *, old_names: bool) -> Path:
    state = published.state_dict()
    if old_names:
        renamed = {
            "parametrizations.weight.original0": "weight_g",
            "parametrizations.weight.original1": "weight_v",
        }
        for new, old in renamed.items():
            state = {name.replace(new, old): value for name, value in state.items()}
        state.pop("ssl_encoder.model.masked_spec_embed")
    torch.save(state, folder / "utmos.ckpt")
    published.config.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("old_names", [False, True])
def test_it_rates_as_the_published_network(published: Published, tmp_path: Path, old_names: bool) -> None:
    folder = write(tmp_path, published, old_names=old_names)
    speech_S = 0.1 * torch.randn(RATE_HZ, generator=torch.Generator().manual_seed(2))
    for domain, judge in ((0, 288), (2, 7)):
        metric = Utmos(UtmosConfig(model=str(folder), judge=judge, domain=domain))
        with torch.no_grad():
            expected = float(published(speech_S[None], domain=domain, judge=judge))
        assert metric.judge(speech_S, sample_rate_hz=RATE_HZ) == {"": pytest.approx(expected, abs=1e-5)}
        assert metric.measure_original(speech_S, sample_rate_hz=RATE_HZ)[""][1] == 1
    assert math.isnan(metric.judge(speech_S[:1000], sample_rate_hz=RATE_HZ)[""])
    assert metric.versions().keys() == {"transformers", "weights"}


def test_what_is_no_utmos_is_refused(published: Published, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither utmos\.ckpt nor"):
        Utmos(UtmosConfig(model=str(tmp_path)))
    torch.save({"linear.weight": torch.zeros(2, 2)}, tmp_path / "utmos.ckpt")
    with pytest.raises(CheckpointError, match="these are of something else"):
        Utmos(UtmosConfig(model=str(tmp_path)))
    write(tmp_path, published, old_names=False)
    with pytest.raises(CheckpointError, match=r"judge of utmos is 300, but .* knows 0 to 299"):
        Utmos(UtmosConfig(model=str(tmp_path), judge=300))
