"""What is clustered: cepstra, or hidden states of an encoder; a row for each frame that is trained on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from wavslm_core.plugin import Encoder, LayeredEncoder, RecipeError, load_torchaudio, weights_digest
from wavslm_wavlm.config import SAMPLE_RATE_HZ
from wavslm_wavlm.encoder import WavLM
from wavslm_wavlm.pretraining.config import clustering_problem

WINDOW_SAMPLES, SHIFT_SAMPLES = SAMPLE_RATE_HZ // 40, SAMPLE_RATE_HZ // 100
"""Of cepstra: 25 ms, and about 10 ms, as everywhere; some whole number of these shifts is a frame."""
COEFFICIENTS = 13
QUIET = 1e-3
"""A deviation that is nothing."""


class ClusteredFeatures(ABC):
    """Waveforms at `SAMPLE_RATE_HZ` to what is clustered."""

    @property
    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """JSON values that change with what comes out."""

    @abstractmethod
    def __call__(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Return the rows (T,F), float32 on the CPU, of each waveform (S,)."""


class Cepstra(ClusteredFeatures):
    """MFCCs with first and second differences, 39 in all, each window in the middle of what a frame hears.

    Kaldi's mel bands, lifter and window, by torchaudio. Differences are taken at the finer rate.
    """

    def __init__(self, encoder: WavLM, *, normalized: bool) -> None:
        """`normalized`: each of the 39 has zero mean and unit variance in each waveform."""
        self.normalized = normalized
        self.frame_lengths = encoder.frame_lengths
        self.hop = encoder.config.hop_samples
        self.per_frame = max(1, round(self.hop / SHIFT_SAMPLES))
        if self.hop % self.per_frame:
            self.per_frame = 1
        reach = encoder.config.receptive_samples
        # A causal frame ends with its first sample, any other begins there.
        self.first = (1 - reach if encoder.config.causal else 0) + (reach - WINDOW_SAMPLES) // 2

    @property
    def fingerprint(self) -> dict[str, Any]:
        options = {"normalized": self.normalized, "per_frame": self.per_frame, "first": self.first}
        return {"name": "mfcc", "hop": self.hop, **options}

    def __call__(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        return [self._rows(waveform_S) for waveform_S in waveforms]

    def _rows(self, waveform_S: Tensor) -> Tensor:
        frames = int(self.frame_lengths(torch.tensor(len(waveform_S))))
        samples = (frames - 1) * self.hop + WINDOW_SAMPLES
        end = self.first + samples
        padded_S = F.pad(waveform_S, (max(0, -self.first), max(0, end - len(waveform_S))))
        torchaudio = load_torchaudio()
        cepstra_NC = torchaudio.compliance.kaldi.mfcc(
            padded_S[None, max(0, self.first) :][:, :samples],
            sample_frequency=float(SAMPLE_RATE_HZ),
            frame_length=1000 * WINDOW_SAMPLES / SAMPLE_RATE_HZ,
            frame_shift=1000 * self.hop / self.per_frame / SAMPLE_RATE_HZ,
            num_ceps=COEFFICIENTS,
        )
        slope_CN = torchaudio.functional.compute_deltas(cepstra_NC.T)
        curve_CN = torchaudio.functional.compute_deltas(slope_CN)
        rows_TF: Tensor = torch.cat([cepstra_NC, slope_CN.T, curve_CN.T], dim=1)[:: self.per_frame]
        if not self.normalized:
            return rows_TF
        return (rows_TF - rows_TF.mean(0)) / (rows_TF.std(0, correction=0) + QUIET)


class HiddenStates(ClusteredFeatures):
    """Those of a layer of an encoder, or its features."""

    def __init__(
        self, encoder: Encoder[Any], *, layer: int | None, hop_samples: int, device: torch.device
    ) -> None:
        """`hop_samples`: of the encoder that is trained. Raises: RecipeError when frames or layers differ."""
        problem = clustering_problem(encoder.config, layer=layer, hop_samples=hop_samples)
        if problem:
            raise RecipeError(problem)
        self.encoder = encoder.to(device).eval().requires_grad_(False)
        self.device = device
        self.layer = layer

    @property
    def fingerprint(self) -> dict[str, Any]:
        return {"name": "hidden", "layer": self.layer, "weights": weights_digest(self.encoder)}

    @torch.no_grad()
    def __call__(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        lengths_B = torch.tensor([len(waveform_S) for waveform_S in waveforms], device=self.device)
        waveform_BS = pad_sequence(list(waveforms), batch_first=True).to(self.device)
        if self.layer is None:
            rows_BTF = self.encoder(waveform_BS, lengths=lengths_B)
        else:
            layered = cast("LayeredEncoder[Any]", self.encoder)
            rows_BTF = layered.hidden_states(waveform_BS, lengths=lengths_B)[self.layer]
        frames = self.encoder.frame_lengths(lengths_B).tolist()
        return [rows_TF[:count].float().cpu() for rows_TF, count in zip(rows_BTF, frames, strict=True)]
