"""How alike two voices are: cosines of speaker embeddings, by WavLM's x-vectors and by Resemblyzer."""

from __future__ import annotations

from abc import abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.plugin import (
    AudioError,
    Metric,
    MetricConfig,
    WavslmError,
    find_folder,
    load_torchaudio,
    read_torch,
    resample,
    weights_digest,
)
from wavslm_judges.config import ResemblyzerConfig, WavlmSvConfig
from wavslm_judges.libraries import load_transformers, versions_of

ConfigT = TypeVar("ConfigT", bound=MetricConfig)
RATE_HZ = 16_000
SHORTEST_S = 0.5
"""What is shorter tells no voice."""
SILENCE = 1e-4
"""What never gets louder has none."""


class SpeakerLikeness(Metric[ConfigT], Generic[ConfigT]):
    """Cosine of two embeddings × 100; NaN where one of the recordings is silent or too short."""

    better: ClassVar[Literal["higher", "lower"]] = "higher"

    @abstractmethod
    def embed(self, waveform_S: Tensor) -> Tensor:
        """Return the embedding (D,) of speech (S,) at 16 kHz, of at least `SHORTEST_S`."""

    def compute(self, reference_S: Tensor, estimate_S: Tensor, *, sample_rate_hz: int) -> float:
        embedded = []
        for sound_S in (reference_S, estimate_S):
            if sound_S.ndim != 1:
                raise AudioError(f"likeness of speakers is of waveforms (S,), got {list(sound_S.shape)}")
            if sound_S.numel() < SHORTEST_S * sample_rate_hz or sound_S.abs().max() < SILENCE:
                return float("nan")
            heard_S = resample(sound_S.detach().float().cpu(), sample_rate_hz, RATE_HZ)
            with torch.inference_mode():
                embedded.append(self.embed(heard_S))
        return 100 * float(F.cosine_similarity(embedded[0], embedded[1], dim=0))


class WavlmSv(SpeakerLikeness[WavlmSvConfig]):
    """X-vectors over WavLM. Raises: WavslmError when transformers or the model is not there."""

    title: ClassVar[str] = "Speaker likeness (WavLM)"

    def __init__(self, config: WavlmSvConfig) -> None:
        super().__init__(config)
        transformers = load_transformers("wavlm_sv")
        folder = find_folder(config.model)
        try:
            self._model: Any = transformers.WavLMForXVector.from_pretrained(folder, local_files_only=True)
            self._extractor: Any = transformers.AutoFeatureExtractor.from_pretrained(
                folder, local_files_only=True
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise WavslmError(
                f"{config.model} is no WavLM for speaker verification ({error}). Give the folder or the hub "
                "id of a `WavLMForXVector` as `model` of wavlm_sv"
            ) from None
        self._model.eval()

    def embed(self, waveform_S: Tensor) -> Tensor:
        inputs = self._extractor(waveform_S.numpy(), sampling_rate=RATE_HZ, return_tensors="pt")
        embedded_D: Tensor = self._model(inputs["input_values"]).embeddings[0]
        return embedded_D

    def versions(self) -> dict[str, str]:
        return {**versions_of("transformers"), "weights": weights_digest(self._model)[:16]}


MELS, WINDOW, HOP = 40, 400, 160
"""Of spectra: bands, and samples of a window and between two."""
PART_FRAMES, PART_STEP = 160, 77
"""Frames that are embedded at once, and between two beginnings: 1.3 in a second."""
COVERED = 0.75
"""Of a last part, so much must be there."""
LEAST_DBFS = -30.0
"""What is quieter is made as loud."""


class Resemblyzer(SpeakerLikeness[ResemblyzerConfig]):
    """Resemblyzer 0.1.4 (arXiv 1710.10467), the weights in its wheel.

    We run the network ourselves: importing the library asks for librosa, and for a detector of voice that is
    no longer installable; with that the published script also cuts long pauses out, which we leave in.
    """

    title: ClassVar[str] = "Speaker likeness (Resemblyzer)"

    def __init__(self, config: ResemblyzerConfig) -> None:
        super().__init__(config)
        state = {
            name: tensor
            for name, tensor in read_torch(_weights_file())["model_state"].items()
            if name.startswith(("lstm.", "linear."))
        }
        self._lstm = nn.LSTM(MELS, 256, num_layers=3, batch_first=True)
        self._linear = nn.Linear(256, 256)
        self._network = nn.ModuleDict({"lstm": self._lstm, "linear": self._linear}).eval()
        self._network.load_state_dict(state)
        functional = load_torchaudio().functional
        self._filters_KM: Tensor = functional.melscale_fbanks(
            WINDOW // 2 + 1, 0.0, RATE_HZ / 2, MELS, RATE_HZ, norm="slaney", mel_scale="slaney"
        )

    def embed(self, waveform_S: Tensor) -> Tensor:
        level_db = 20 * float(waveform_S.square().mean().sqrt().log10())
        waveform_S = waveform_S * 10 ** (max(LEAST_DBFS - level_db, 0.0) / 20)
        starts = part_starts(waveform_S.numel())
        padded_S = F.pad(waveform_S, (0, max(0, (starts[-1] + PART_FRAMES) * HOP - waveform_S.numel())))
        spectrum_KT = torch.stft(
            padded_S,
            WINDOW,
            hop_length=HOP,
            window=torch.hann_window(WINDOW),
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        mels_TM = spectrum_KT.abs().square().T @ self._filters_KM
        parts_NTM = torch.stack([mels_TM[start : start + PART_FRAMES] for start in starts])
        _, (hidden_LND, _) = self._lstm(parts_NTM)
        embedded_ND = F.normalize(F.relu(self._linear(hidden_LND[-1])), dim=1)
        return embedded_ND.mean(dim=0)

    def versions(self) -> dict[str, str]:
        return {**versions_of("resemblyzer"), "weights": weights_digest(self._network)[:16]}


def part_starts(samples: int) -> list[int]:
    """Return the frames at which parts begin; a last one that is mostly beyond the end is left out."""
    frames = -(-(samples + 1) // HOP)
    starts = list(range(0, max(1, frames - PART_FRAMES + PART_STEP + 1), PART_STEP))
    covered = (samples / HOP - starts[-1]) / PART_FRAMES
    return starts[:-1] if covered < COVERED and len(starts) > 1 else starts


def _weights_file() -> Path:
    """Return where the wheel has its weights. Raises: WavslmError when it is not installed."""
    spec = find_spec("resemblyzer")
    folders = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]
    found = next(
        (folder / "pretrained.pt" for folder in folders if (folder / "pretrained.pt").exists()), None
    )
    if found is None:
        raise WavslmError(
            "the metric 'resemblyzer' needs the weights in the wheel of resemblyzer, which is not installed. "
            "Install it with: pip install --no-deps resemblyzer==0.1.4, or leave it out of `metrics`"
        )
    return found
