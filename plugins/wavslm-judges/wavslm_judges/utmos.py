"""UTMOS, the strong learner (Saeki et al. 2022, arXiv 2204.02152), as it lies on the hub.

A wav2vec 2.0 hears 16 kHz; a recurrent network reads its features beside an embedding of a listening test and
one of a listener, and rates each frame. The rating of a recording is the mean over frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from wavslm_core.plugin import (
    CONFIG_FILE,
    PICKLE_FILE,
    WEIGHTS_FILE,
    AudioError,
    CheckpointError,
    ReferenceFreeMetric,
    find_folder,
    load_state,
    read_folder,
    resample,
    weights_digest,
)
from wavslm_judges.config import UtmosConfig
from wavslm_judges.libraries import load_transformers, versions_of

RATE_HZ = 16_000
UTMOS_FILE = "utmos.ckpt"
ENCODER = "ssl_encoder.model."
"""Before the names of wav2vec 2.0's weights."""
NORMS = {
    "pos_conv_embed.conv.weight_g": "pos_conv_embed.conv.parametrizations.weight.original0",
    "pos_conv_embed.conv.weight_v": "pos_conv_embed.conv.parametrizations.weight.original1",
}
"""Names of weights of before torch 2.0 → today's."""
MASK = "encoder.masked_spec_embed"
SHORTEST_S = 0.1
"""What is shorter has no rating."""
SCALE, OFFSET = 2.0, 3.0
"""From what the network gives to the scale from 1 to 5."""


class Utmos(ReferenceFreeMetric[UtmosConfig]):
    """Rates speech alone. Raises: WavslmError when transformers or the weights are not there."""

    title: ClassVar[str] = "UTMOS"
    better: ClassVar[Literal["higher", "lower"]] = "higher"

    def __init__(self, config: UtmosConfig) -> None:
        super().__init__(config)
        transformers = load_transformers("utmos")
        folder = find_folder(config.model)
        state = read_folder(folder, UTMOS_FILE, WEIGHTS_FILE, PICKLE_FILE)
        options = {}
        if (folder / CONFIG_FILE).exists():
            options = transformers.Wav2Vec2Config.from_pretrained(folder, local_files_only=True).to_dict()
        self._network = _Network(transformers, options, state).eval()
        load_state(self._network, self._renamed(state), source=str(folder))
        for name, table, number in (
            ("judge", self._network.judge_embedding, config.judge),
            ("domain", self._network.domain_embedding, config.domain),
        ):
            if number >= table.num_embeddings:
                raise CheckpointError(
                    f"{name} of utmos is {number}, but {config.model} knows 0 to {table.num_embeddings - 1}"
                )

    def _renamed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights by the names that this version of transformers gives them."""
        found = {}
        for name, tensor in state.items():
            name = f"encoder.{name.removeprefix(ENCODER)}" if name.startswith(ENCODER) else name
            for old, new in NORMS.items():
                name = name.replace(old, new)
            found[name] = tensor
        # It stands for what is masked in training, and not every copy has kept it.
        own = self._network.state_dict()
        return found | {name: own[name] for name in (MASK,) if name in own and name not in found}

    def judge(self, waveform_S: Tensor, *, sample_rate_hz: int) -> dict[str, float]:
        """Return the rating as ""; NaN for less than 0.1 s. Raises: AudioError."""
        if waveform_S.ndim != 1:
            raise AudioError(f"utmos rates one waveform (S,), got {list(waveform_S.shape)}")
        if waveform_S.numel() < SHORTEST_S * sample_rate_hz:
            return {"": float("nan")}
        heard_S = resample(waveform_S.detach().float().cpu(), sample_rate_hz, RATE_HZ)
        with torch.inference_mode():
            return {"": float(self._network(heard_S, self.config.judge, self.config.domain))}

    def versions(self) -> dict[str, str]:
        return {**versions_of("transformers"), "weights": weights_digest(self._network)[:16]}


class _Network(nn.Module):
    """The published network; its sizes are those of the weights."""

    def __init__(self, transformers: Any, options: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
        super().__init__()
        try:
            domains, judges = state["domain_embedding.weight"], state["judge_embedding.weight"]
            hidden = state["decoder.weight_hh_l0"].shape[1]
            width = state["classifier.0.weight"].shape[0]
        except KeyError as error:
            raise CheckpointError(f"the weights of utmos lack {error}: these are of something else") from None
        self.encoder = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**options))
        features = self.encoder.config.hidden_size
        self.domain_embedding = nn.Embedding(*domains.shape)
        self.judge_embedding = nn.Embedding(*judges.shape)
        self.decoder = nn.LSTM(
            features + domains.shape[1] + judges.shape[1], hidden, batch_first=True, bidirectional=True
        )
        self.classifier = nn.Sequential(
            nn.Linear(2 * hidden, width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, 1)
        )

    def forward(self, waveform_S: Tensor, judge: int, domain: int) -> Tensor:
        """Return the rating, (), of speech (S,) at 16 kHz."""
        features_TD = self.encoder(waveform_S[None]).last_hidden_state[0]
        about = [self.domain_embedding.weight[domain], self.judge_embedding.weight[judge]]
        beside = [row_D.expand(len(features_TD), -1) for row_D in about]
        decoded_TD, _ = self.decoder(torch.cat([features_TD, *beside], dim=1))
        rating: Tensor = self.classifier(decoded_TD).mean() * SCALE + OFFSET
        return rating
