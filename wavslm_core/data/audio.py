"""Waveforms as tensors: reading, writing and resampling. The one module that imports torchaudio.

`torchaudio` wheels from PyPI are CUDA builds. Beside a CPU-only torch their compiled extension does not
load and `import torchaudio` fails, although all that is used here is plain Python. `load_torchaudio()` then
imports it with the extension marked as unavailable. Libraries that import torchaudio themselves
(transformers does) must be imported after it.
"""

import re
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import cache, lru_cache
from importlib.metadata import version
from io import BytesIO
from math import ceil
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from wavslm_core.data.arguments import FLOATS, checked_rate
from wavslm_core.data.audio_files import (
    AudioBytes,
    AudioInfo,
    AudioSource,
    audio_info,
    check_finite,
    read_samples,
)
from wavslm_core.errors import AudioError
from wavslm_core.machine.files import replacing

LARGEST_RATIO_TERM = 2000
"""Bound on the terms of a resampling ratio: the kernel grows with their product. A ratio with larger terms
is replaced by the nearest allowed one, off by less than a quarter of a millionth."""
_LOWPASS_FILTER_WIDTH = 6
_ROLLOFF = 0.99


@cache
def load_torchaudio() -> ModuleType:
    """Import torchaudio, without its compiled extension where that cannot be loaded."""
    try:
        import torchaudio
    except OSError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
            del sys.modules[name]
        sys.modules["torchaudio._extension"] = _extension_stand_in()
        import torchaudio
    return torchaudio


def torchaudio_problem() -> str | None:
    """Return why programs that import torchaudio without us fail here, and what helps; None: they do not."""
    load_torchaudio()
    if getattr(sys.modules["torchaudio._extension"], "__file__", None) is not None:
        return None
    # PyTorch keeps an index for each build of its own: 2.13.0+cpu, 2.13.0+cu126.
    build = re.search(r"\+(cpu|cu\d+|rocm[\d.]+|xpu)$", torch.__version__)
    index = f" --index-url https://download.pytorch.org/whl/{build[1]}" if build else ""
    return (
        f"`import torchaudio` fails with an OSError outside of wavslm: torchaudio {version('torchaudio')} is "
        f"built for another torch than {torch.__version__}. wavslm does without its compiled part. Other "
        "software, transformers above all, needs the build that belongs to this torch: pip install "
        f"--force-reinstall --no-deps torchaudio{index}; or, in a program of your own, call "
        "wavslm_core.data.audio.load_torchaudio() before importing it"
    )


def _extension_stand_in() -> ModuleType:
    """Return a `torchaudio._extension` that says that nothing compiled is available."""

    def fail_if_no_align(function: Callable[..., Any]) -> Callable[..., Any]:
        def unavailable(*_: Any, **__: Any) -> Any:
            raise RuntimeError(
                f"{function.__name__} needs torchaudio's compiled extension, which did not load"
            )

        return unavailable

    module: Any = ModuleType("torchaudio._extension")
    module._IS_TORCHAUDIO_EXT_AVAILABLE = False
    module._IS_ALIGN_AVAILABLE = False
    module.fail_if_no_align = fail_if_no_align
    return module


def read_audio(
    path: str | AudioSource,
    *,
    sample_rate_hz: int | None = None,
    part: tuple[int, int] | None = None,
    info: AudioInfo | None = None,
) -> Tensor:
    """Return a file's waveform (S,) float32 in [-1, 1], mono, at `sample_rate_hz` (default: its own rate).

    `part` is (start, samples) at the file's own rate: only that is decoded where the format can seek. `info`
    is what a scan found out about the file, which is then not looked for again.
    Raises: AudioError for anything that is not a whole, finite, non-empty audio file.
    """
    start, count = part if part is not None else (0, None)
    samples, own_rate_hz = read_samples(_source(path), start=start, samples=count, info=info)
    waveform_S = torch.from_numpy(samples)
    if sample_rate_hz is None or sample_rate_hz == own_rate_hz:
        return waveform_S
    return resample(waveform_S, own_rate_hz, sample_rate_hz)


def read_crop(
    path: str | AudioSource,
    *,
    start: int,
    samples: int,
    sample_rate_hz: int,
    own_rate_hz: int,
    part: tuple[int, int] | None = None,
    info: AudioInfo | None = None,
) -> Tensor:
    """Return `read_audio(path, …)[start : start + samples]`, decoding little more.

    `own_rate_hz` is the file's rate; `start` and `samples` count samples at `sample_rate_hz`. A crop beyond
    the end comes back shorter. Raises: AudioError as `read_audio`, and for a crop that lies wholly beyond
    the end.
    """
    file = _source(path)
    info = info or audio_info(file)
    begin, length = part if part is not None else (0, info.samples)
    ratio = _ratio(own_rate_hz, sample_rate_hz)
    step = ratio.denominator
    # The filter looks this far to either side, in samples of the file; start on a whole step of the ratio so
    # that the phases of the crop are those of the whole file.
    reach = 0 if ratio == 1 else ceil(_LOWPASS_FILTER_WIDTH / (min(1.0, float(ratio)) * _ROLLOFF)) + step
    first = max(0, int(start / ratio) - reach) // step * step
    last = min(length, ceil((start + samples) / ratio) + reach)
    decoded, _ = read_samples(file, start=begin + first, samples=last - first, info=info)
    resampled = torch.from_numpy(decoded)
    if ratio != 1:
        resampled = resample(resampled, own_rate_hz, sample_rate_hz)
    offset = start - first // step * ratio.numerator
    return resampled[offset : offset + samples]


def _source(path: str | AudioSource) -> AudioSource:
    return path if isinstance(path, AudioBytes) else Path(path)


def write_audio(path: str | Path, waveform_S: Tensor, sample_rate_hz: float) -> None:
    """Write a waveform (S,) as 16-bit WAV or FLAC, by the suffix; atomic; values beyond ±1 are clipped.

    Raises: AudioError for an empty, non-finite or wrongly shaped waveform and for other suffixes; DataError
    when the file cannot be written.
    """
    import soundfile

    file = Path(path)
    if file.suffix.lower() not in {".wav", ".flac"}:
        raise AudioError(f"cannot write audio to {file}: '{file.suffix}' given, allowed are .wav and .flac")
    if waveform_S.ndim != 1 or waveform_S.numel() == 0:
        raise AudioError(
            f"cannot write a waveform of shape {tuple(waveform_S.shape)}: one channel (S,), S > 0"
        )
    rate_hz = checked_rate(sample_rate_hz)
    samples = waveform_S.detach().to("cpu", torch.float32).numpy()
    check_finite(samples, source=f"the waveform for {file}")
    # Through memory: libsndfile itself says of a full disk only "System error".
    encoded = BytesIO()
    kind = file.suffix.lower().removeprefix(".")
    soundfile.write(encoded, samples.clip(-1.0, 1.0), rate_hz, subtype="PCM_16", format=kind)
    with replacing(file) as beside:
        beside.write_bytes(encoded.getbuffer())


def resampled_length(samples: int, from_hz: int, to_hz: int) -> int:
    """Return how many samples `resample` gives for that many."""
    return -(-samples * to_hz // from_hz)


def resample(waveform: Tensor, from_hz: float, to_hz: float) -> Tensor:
    """Resample (..., S) to (..., ⌈S · to / from⌉) with a windowed sinc; any two rates, kernels are cached.

    Computed in float32, or float64 where that is given, and returned as the type of float that was given.
    Raises: AudioError for integers, and for rates that are not whole numbers of Hz.
    """
    from_hz, to_hz = checked_rate(from_hz), checked_rate(to_hz)
    if waveform.dtype not in FLOATS:
        raise AudioError(f"a waveform must be floats in [-1, 1] to be resampled, got {waveform.dtype}")
    if from_hz == to_hz:
        return waveform
    ratio = _ratio(from_hz, to_hz)
    dtype = torch.float64 if waveform.dtype == torch.float64 else torch.float32
    resampler = _resampler(ratio.denominator, ratio.numerator, waveform.device, dtype)
    # Audio is data: a caller that trains under autocast must not get it rounded to 8 bits.
    with torch.autocast(waveform.device.type, enabled=False):
        resampled: Tensor = resampler(waveform.to(dtype)).to(waveform.dtype)
    length = resampled_length(waveform.shape[-1], from_hz, to_hz)
    if resampled.shape[-1] < length:
        return torch.nn.functional.pad(resampled, (0, length - resampled.shape[-1]))
    return resampled[..., :length]


def _ratio(from_hz: int, to_hz: int) -> Fraction:
    """Return to/from in lowest terms, or the nearest ratio whose terms stay bounded."""
    exact = Fraction(to_hz, from_hz)
    if max(exact.numerator, exact.denominator) <= LARGEST_RATIO_TERM:
        return exact
    if exact > 1:
        return 1 / (1 / exact).limit_denominator(LARGEST_RATIO_TERM)
    return exact.limit_denominator(LARGEST_RATIO_TERM)


@lru_cache(maxsize=32)
def _resampler(from_term: int, to_term: int, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    transforms = load_torchaudio().transforms
    # A kernel of float32 is computed in float64 all the same, unless float32 is asked for.
    transform: torch.nn.Module = transforms.Resample(
        from_term,
        to_term,
        lowpass_filter_width=_LOWPASS_FILTER_WIDTH,
        rolloff=_ROLLOFF,
        dtype=torch.float64 if dtype == torch.float64 else None,
    )
    return transform.to(device)
