"""DNSMOS P.835 (Reddy et al. 2022, arXiv 2110.01763) on the weights in the wheel of speechmos.

The network hears 9.01 s at 16 kHz. Shorter speech is doubled until it is that long, as the published script
does; longer speech is heard in windows one second apart, whose ratings are averaged. We run the network
ourselves, because importing speechmos asks for librosa, which these three ratings do not need.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.resources import as_file, files
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wavslm_core.plugin import AudioError, ReferenceFreeMetric, WavslmError, resample
from wavslm_judges.config import DnsmosConfig
from wavslm_judges.libraries import versions_of

RATE_HZ = 16_000
WINDOW_SAMPLES = 144_160
"""9.01 s."""
RATINGS = ("signal", "background", "")
"""The network's outputs in order; "" is the overall rating, after which the metric is named."""
CALIBRATION: dict[str, tuple[float, float, float]] = {
    "signal": (-0.08397278, 1.22083953, 0.0052439),
    "background": (-0.13166888, 1.60915514, -0.39604546),
    "": (-0.06766283, 1.11546468, 0.04602535),
}
"""Published parabolas from the network's outputs to the scale of listeners, highest power first."""


class Dnsmos(ReferenceFreeMetric[DnsmosConfig]):
    """Rates speech alone. Raises: WavslmError when onnxruntime or speechmos is not installed."""

    title: ClassVar[str] = "DNSMOS"
    better: ClassVar[Literal["higher", "lower"]] = "higher"
    extra: ClassVar[Mapping[str, str]] = {"signal": "DNSMOS signal", "background": "DNSMOS background"}

    def __init__(self, config: DnsmosConfig) -> None:
        super().__init__(config)
        try:
            runtime: Any = import_module("onnxruntime")
            weights = files("speechmos") / "dnsmos_models" / "sig_bak_ovr.onnx"
        except ImportError as error:
            raise WavslmError(
                f"the metric 'dnsmos' needs {error.name}, which is not installed. "
                "Install it with: pip install wavslm-judges, or leave 'dnsmos' out of `metrics`"
            ) from None
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        with as_file(weights) as path:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def versions(self) -> dict[str, str]:
        return versions_of("speechmos", "onnxruntime")

    def judge(self, waveform_S: Tensor, *, sample_rate_hz: int) -> dict[str, float]:
        """Return the overall rating as "", `signal` and `background`. Raises: AudioError."""
        if waveform_S.ndim != 1 or waveform_S.numel() == 0:
            raise AudioError(f"dnsmos rates one waveform (S,), got {list(waveform_S.shape)}")
        heard_S = resample(waveform_S.detach().float().cpu(), sample_rate_hz, RATE_HZ).clamp(-1, 1).numpy()
        # One window at a time: a batch takes as long and more memory.
        raw_W3 = np.stack([self._session.run(None, {"input_1": row[None]})[0][0] for row in windows(heard_S)])
        return {
            name: float(np.polyval(CALIBRATION[name], raw_W3[:, place]).mean())
            for place, name in enumerate(RATINGS)
        }


def windows(waveform_S: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    """Return windows (WINDOW_SAMPLES,) one second apart; what is shorter is doubled until it fills one."""
    while waveform_S.size < WINDOW_SAMPLES:
        waveform_S = np.concatenate([waveform_S, waveform_S])
    # As published: only whole seconds beyond the first window give another one.
    count = int(waveform_S.size // RATE_HZ - WINDOW_SAMPLES / RATE_HZ) + 1
    starts = range(0, count * RATE_HZ, RATE_HZ)
    return [waveform_S[at : at + WINDOW_SAMPLES] for at in starts if at + WINDOW_SAMPLES <= waveform_S.size]
