"""A flow: one way in which a part turns a sequence into another, whole or in steps.

An encoder, a decoder and a backbone have one, a quantizer two. What must hold of any flow is written once,
in `sequence_checks` and `streaming_checks`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle

import torch
from torch import Tensor

from wavslm_core.parts.interfaces import State
from wavslm_core.testing.contract.subject import generator

LEAST_FRAMES = 96
"""More than the rings of `wavslm_core.parts.streaming` hold, so that they wrap."""


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Places are samples, frames or tokens; sizes count places of the input unless said otherwise."""

    name: str
    """The method, for messages."""
    places: str
    """What its input is made of."""
    make: Callable[[int, int, int], Tensor]
    """Random input for (batch, places, seed)."""
    whole: Callable[[Tensor, Tensor | None], Tensor]
    """The whole sequence at once, given lengths."""
    init_state: Callable[[int], State]
    step: Callable[[Tensor, State], tuple[Tensor, State]]
    flush: Callable[[State], Tensor] | None = None
    lengths_out: Callable[[Tensor], Tensor]
    """Places of the output for those of the input."""
    chunk_in: int
    chunk_out: int
    """Places of input and output in the smallest streaming step."""
    frame_in: int = 1
    """Places that lengths are whole multiples of."""
    delay: int = 0
    """Places by which streamed output lags."""
    window_chunks: int | None = None
    """Chunks that an output can see at most, its own included."""

    @property
    def chunks(self) -> int:
        """Chunks of a long input: past every window, and past what a ring holds."""
        frames = -(-LEAST_FRAMES // max(1, self.chunk_out))
        return min(max(12, frames, 2 * (self.window_chunks or 0) + 4), 400)

    def input(self, batch: int, *, chunks: int | None = None, seed: int = 0) -> Tensor:
        return self.make(batch, (chunks or self.chunks) * self.chunk_in, seed)

    def streamed(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        """Return the output of steps of `sizes` chunks in turn, aligned with that of `whole`."""
        state = self.init_state(x.shape[0])
        outputs, start = [], 0
        for size in cycle(sizes):
            if start >= x.shape[1]:
                break
            # A step may write into what it is given, as callers may into what they gave.
            output, state = self.step(x[:, start : start + size * self.chunk_in].clone(), state)
            outputs.append(output)
            start += size * self.chunk_in
        if self.flush is not None:
            outputs.append(self.flush(state))
        return torch.cat(outputs, dim=1)[:, self.delay :]


def random_features(dim: int) -> Callable[[int, int, int], Tensor]:
    return lambda batch, size, seed: torch.randn(batch, size, dim, generator=generator(seed))


def random_tokens(vocab_size: int) -> Callable[[int, int, int], Tensor]:
    return lambda batch, size, seed: torch.randint(vocab_size, (batch, size), generator=generator(seed))


def random_waveform(batch: int, size: int, seed: int) -> Tensor:
    return torch.rand(batch, size, generator=generator(seed)) - 0.5


def state_bytes(state: State) -> int:
    """Return the memory that a state keeps alive, including what its tensors are views of."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in state}
    return sum(storages.values())
