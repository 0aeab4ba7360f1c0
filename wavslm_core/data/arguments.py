"""The one door for what people hand to models: waveforms, lengths, tokens, seeds, rates, counts, durations.

What has one meaning is converted: arrays and lists, any float or integer type, one item without a batch, a
rate of 22050.0. What has not is refused in one line. Values are looked at where they come in;
`wait=False`, for streams, leaves out what would wait for a GPU. While torch traces a graph there are no
values to look at.
"""

import math
import operator
from collections.abc import Sequence
from itertools import chain
from typing import Any, SupportsFloat, SupportsIndex

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from wavslm_core.data.audio_files import LOUDEST_SENSIBLE
from wavslm_core.errors import ArgumentError, AudioError, WavslmError

Given = Tensor | npt.ArrayLike
"""Numbers as people have them: a tensor, a numpy array, lists of numbers."""
Seeds = SupportsIndex | Sequence[SupportsIndex] | npt.NDArray[np.integer[Any]] | Tensor
"""One seed, or one for each row."""

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
MOST_CHANNELS = 8
"""Up to this many columns, fewer than rows, are channels: no waveform is half a millisecond long."""


def first_floats(*modules: nn.Module) -> Tensor:
    """Return a floating-point tensor of the first module with one, which tells device and dtype.

    An empty one on the CPU where none has any.
    """
    tensors = chain.from_iterable(chain(module.parameters(), module.buffers()) for module in modules)
    return next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(0))


def checked_waveform(given: Given, *, like: Tensor, wait: bool = True) -> Tensor:
    """Return a waveform (B,S) with the device and dtype of `like`; (S,) becomes a batch of one.

    Raises: AudioError for another shape, integers, no samples, NaN, infinities, and floats that were never
    scaled to [-1, 1].
    """
    waveform_BS = _tensor(given, "a waveform", AudioError)
    if waveform_BS.ndim == 1:
        waveform_BS = waveform_BS[None]
    shape = list(waveform_BS.shape)
    if waveform_BS.dtype not in FLOATS:
        raise AudioError(
            f"a waveform must be floats in [-1, 1], got {_named(waveform_BS)}; divide integers by their full "
            "scale, 32768 for int16"
        )
    if waveform_BS.ndim != 2:
        raise AudioError(f"a waveform must be (B,S) or (S,), got {shape}; mix channels down with a mean")
    batch, size = shape
    if batch == 0 or size == 0:
        raise AudioError(f"a waveform {shape} has no samples; leave empty items out")
    if size <= MOST_CHANNELS < batch:
        raise AudioError(
            f"a waveform must be (B,S) or (S,), got {shape}, which looks like (S,channels): mix the channels "
            "down with .mean(1)"
        )
    if _can_look(waveform_BS, wait):
        _check_samples(waveform_BS)
    return waveform_BS.to(like)


def _check_samples(waveform_BS: Tensor) -> None:
    low, high = torch.stack(waveform_BS.aminmax()).tolist()
    if not math.isfinite(low + high):
        bad = (~torch.isfinite(waveform_BS)).any(dim=1).nonzero().flatten().tolist()
        raise AudioError(f"the waveform holds NaN or infinite samples (items {bad}); leave them out")
    peak = max(-low, high)
    if peak > LOUDEST_SENSIBLE:
        raise AudioError(
            f"the waveform reaches {peak:.6g}, audio lies within ±1; divide it by its full scale, 32768 for "
            "16-bit samples"
        )


def checked_lengths(
    given: Given | None, *, rows: int, most: int, least: int = 1, unit: str, device: torch.device
) -> Tensor | None:
    """Return how many samples or tokens (`unit`) of each row are valid, (B,) int64; None means all.

    Raises: ArgumentError unless there is one integer from `least` to `most` for each row.
    """
    if given is None:
        return None
    lengths_B = _integers(given, "lengths")
    if lengths_B.ndim == 0:
        lengths_B = lengths_B[None]
    bad = list(lengths_B.shape) != [rows]
    if not bad and _can_look(lengths_B):
        low, high = torch.stack(lengths_B.aminmax()).tolist()
        bad = low < least or high > most
    if bad:
        raise ArgumentError(
            f"lengths must be {rows} numbers of {least} to {most} {unit}, one for each row; got "
            f"{_few(lengths_B)}"
        )
    return lengths_B.to(device)


def checked_counts(given: Given, *, unit: str) -> Tensor:
    """Return numbers of samples or tokens (`unit`), any shape, as int64.

    Raises: ArgumentError for anything but integers of 0 or more.
    """
    counts = _integers(given, f"numbers of {unit}")
    if counts.numel() and _can_look(counts) and int(counts.min()) < 0:
        raise ArgumentError(f"numbers of {unit} must be 0 or more, got {_few(counts)}")
    return counts


def checked_tokens(given: Given, *, vocab_size: int, device: torch.device, wait: bool = True) -> Tensor:
    """Return tokens (B,T) int64; (T,) becomes a batch of one.

    Raises: ArgumentError for another shape, anything but integers, and ids outside the codebook.
    """
    tokens_BT = _integers(given, "tokens")
    if tokens_BT.ndim == 1:
        tokens_BT = tokens_BT[None]
    if tokens_BT.ndim != 2 or tokens_BT.shape[0] == 0:
        raise ArgumentError(f"tokens must be (B,T) or (T,), at least one row, got {list(tokens_BT.shape)}")
    if tokens_BT.shape[1] and _can_look(tokens_BT, wait):
        low, high = torch.stack(tokens_BT.aminmax()).tolist()
        if low < 0 or high >= vocab_size:
            raise ArgumentError(
                f"token ids must lie in 0…{vocab_size - 1}, got {low}…{high}: another codec's tokens? "
                "Use the codec that made them"
            )
    return tokens_BT.to(device)


def checked_seeds(given: Seeds, rows: int) -> list[int]:
    """Return one seed a row, 0 ≤ seed < 2⁶³: `given`, `given + 1`, …, or the given ones.

    Raises: ArgumentError for anything but integers, or another number of them than rows.
    """
    seeds: list[int]
    try:
        if isinstance(given, SupportsIndex) and getattr(given, "ndim", 0) == 0:
            seeds = [operator.index(given) + row for row in range(rows)]
        else:
            seeds = [operator.index(seed) for seed in given]  # type: ignore[union-attr]
    except TypeError:
        raise ArgumentError(f"a seed must be an integer, or one for each row; got {given!r}") from None
    if len(seeds) != rows:
        raise ArgumentError(
            f"{len(seeds)} seeds were given for {rows} rows; give one per row or a single one"
        )
    return [seed % 2**63 for seed in seeds]


def checked_rate(given: SupportsFloat | SupportsIndex) -> int:
    """Return a sampling rate in Hz. Raises: AudioError unless it is a positive whole number."""
    try:
        rate_hz = float(given)
    except (TypeError, ValueError, OverflowError):
        rate_hz = math.nan
    if not (rate_hz > 0 and rate_hz.is_integer()):
        raise AudioError(f"a sampling rate must be a positive whole number of Hz, got {given!r}")
    return int(rate_hz)


def checked_count(given: SupportsIndex, name: str, *, least: int = 0) -> int:
    """Return an integer of at least `least`. Raises: ArgumentError with the `name` of the argument."""
    try:
        count = operator.index(given)
    except TypeError:
        count = least - 1
    if count < least:
        raise ArgumentError(f"{name} must be an integer of {least} or more, got {given!r}")
    return count


def checked_seconds(given: SupportsFloat | SupportsIndex, name: str) -> float:
    """Return a finite duration of 0 or more. Raises: ArgumentError with the `name` of the argument."""
    try:
        seconds = float(given)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ArgumentError(f"{name} must be a number of seconds, 0 or more, got {given!r}")
    return seconds


def _tensor(given: Given, what: str, error: type[WavslmError]) -> Tensor:
    """Return a dense tensor that shares memory where it can. Raises: `error`."""
    if isinstance(given, Tensor):
        if given.layout != torch.strided:
            layout = str(given.layout).removeprefix("torch.")
            raise error(
                f"{what} must be a dense tensor, got one that is {layout}; convert it with .to_dense()"
            )
        return given
    try:
        array = np.asarray(given)
        # torch knows only the machine's own byte order, and nothing longer than a double.
        native = np.dtype(np.float64) if array.dtype == np.longdouble else array.dtype.newbyteorder("=")
        return torch.from_numpy(np.require(array, native, ["C", "W"]))
    except (TypeError, ValueError, RuntimeError):
        raise error(
            f"{what} must be a tensor, an array or a list of numbers, all rows of one length; got "
            f"{type(given).__name__}. Pad rows to one length and give `lengths`"
        ) from None


def _integers(given: Given, what: str) -> Tensor:
    """Return int64. Raises: ArgumentError for anything but integers; of nothing at all, any type will do."""
    numbers = _tensor(given, what, ArgumentError)
    is_integer = not (numbers.dtype.is_floating_point or numbers.dtype.is_complex)
    if numbers.numel() and (not is_integer or numbers.dtype == torch.bool):
        raise ArgumentError(
            f"{what} must be integers, got {_named(numbers)}; convert whole numbers with .long()"
        )
    return numbers.long()


def _can_look(tensor: Tensor, wait: bool = True) -> bool:
    """Whether the values are there to be looked at, at no more cost than is wanted."""
    if torch.compiler.is_compiling() or tensor.device.type == "meta":
        return False
    return wait or tensor.device.type == "cpu"


def _named(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _few(numbers: Tensor) -> str:
    listed = numbers.flatten()[:8].tolist()
    return f"{listed} of shape {list(numbers.shape)}" if numbers.numel() > 8 else f"{numbers.tolist()}"
