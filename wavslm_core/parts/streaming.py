"""Building blocks that obey the streaming contract: a ring of frames, a causal convolution, flat states.

Every block has `forward(x)`, `init_state(batch_size)` and `step(x, state)`, with `state_tensors` telling
how many tensors its state holds, so that a parent can keep one flat tuple for all its children:

    reader = StateReader(state)
    for layer in self.layers:
        x, new = layer.step(x, reader.take(layer.state_tensors))
        states.append(new)
    return x, join_states(*states)

Positions are 0-d int64 tensors on the CPU, whatever the device of the caches: reading one never waits
for a GPU. Where rows are at different places of their streams (`wavslm_core.parts.slots`), a step is given
positions (B,) instead, and returns such. Under `torch.export` and `torch.compile` nothing reads them: a step
is one graph for all positions, which returns new states instead of writing into those it is given.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.errors import StreamingError
from wavslm_core.parts.interfaces import State
from wavslm_core.parts.packing import PackLinear

Padding = Literal["replicate", "zeros"]

PIECE_FRAMES = 32
"""Frames that go through a ring at once; longer steps are cut into such pieces."""
FEW_ROWS = 32
"""Up to this many frames, those of all items together, a convolution is a product of matrices."""
WIDE_GROUP = 16
"""Channels per group from which on a convolution over few frames is a matrix product for each group."""
HALVES = (torch.bfloat16, torch.float16)


@contextmanager
def stream_mode() -> Iterator[None]:
    """Context, and decorator, of whatever makes or advances the states of a stream: no gradients.

    Nor `torch.inference_mode`, even if the caller is in it: nothing outside can write into tensors that were
    made there, so that a stream which is begun in one mode could not go on in another.
    """
    with torch.inference_mode(False), torch.no_grad():
        yield


def join_states(*states: State) -> State:
    """Return one flat state."""
    return tuple(chain.from_iterable(states))


class StateReader:
    """Hands out a flat state piece by piece, in the order in which it was joined."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._next = 0

    def take(self, count: int) -> State:
        piece = self._state[self._next : self._next + count]
        if len(piece) != count:
            raise ValueError(f"state holds {len(self._state)} tensors, more were asked for")
        self._next += count
        return piece


def new_position() -> Tensor:
    """Return a stream position of zero."""
    return torch.zeros((), dtype=torch.int64, device="cpu")


def check_whole_chunks(x: Tensor, chunk: int, places: str) -> None:
    """Raise StreamingError unless the step of a stream is given one or more whole chunks, along dimension 1.

    `chunk` counts `places`: samples, frames or tokens.
    """
    given = x.shape[1]
    if given == 0 or given % chunk:
        raise StreamingError(
            f"a step takes whole chunks of {chunk} {places}, got {given}; collect more before the next step"
        )


@dataclass(frozen=True)
class FrameRing:
    """The last `context` frames of a stream, in a ring that is written into and never copied.

    State: a ring (B, 2R, D) that holds each of the last R frames twice, R apart, so that a window is one
    contiguous view wherever the ring begins; and the position.
    """

    context: int
    """Frames before the current one that a window holds."""
    left_padding: Padding = "replicate"
    """What lies before the first frame: the first frame, or zeros."""

    @property
    def size(self) -> int:
        return self.context + PIECE_FRAMES

    def init_state(self, batch_size: int, channels: int, *, like: Tensor) -> State:
        """Return an empty ring with the dtype and on the device of `like`."""
        return like.new_zeros(batch_size, 2 * self.size, channels), new_position()

    def step(self, x_BTD: Tensor, state: State, convolve: Callable[[Tensor], Tensor]) -> tuple[Tensor, State]:
        """Return `convolve` of the next n frames (B,n,D), each with its context, and the next state.

        `convolve` maps a view (B, context + m, D) of the ring to (B,m,…), for m frames at a time.
        """
        ring, position = state
        if torch.compiler.is_compiling():
            return self._traced_step(x_BTD, state, convolve)
        if position.dim():
            return self._rows_step(x_BTD, state, convolve)
        frames_before = int(position)
        if frames_before == 0 and self.left_padding == "replicate":
            ring.copy_(x_BTD[:, :1].expand_as(ring))
        outputs: list[Tensor] = []
        for piece_BTD in x_BTD.split(PIECE_FRAMES, dim=1):
            outputs.append(convolve(self._push(ring, piece_BTD, frames_before % self.size)))
            frames_before += piece_BTD.shape[1]
        y_BTD = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
        return y_BTD, (ring, position + x_BTD.shape[1])

    def _rows_step(
        self, x_BTD: Tensor, state: State, convolve: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, State]:
        """Return what `step` does for rows at different positions (B,): their windows are gathered."""
        ring, position_B = state
        if self.left_padding == "replicate":
            for row in (position_B == 0).nonzero().flatten().tolist():
                ring[row] = x_BTD[row, 0]
        frames_ND = ring.view(-1, ring.shape[2])
        before_B, outputs = position_B, []
        for piece_BTD in x_BTD.split(PIECE_FRAMES, dim=1):
            frames = piece_BTD.shape[1]
            written_N, seen_N = _places(
                tuple(before_B.tolist()), self.size, self.context, frames, ring.device
            )
            frames_ND.index_copy_(0, written_N, torch.cat([piece_BTD, piece_BTD], dim=1).flatten(0, 1))
            window_BTD = frames_ND.index_select(0, seen_N).view(len(ring), -1, ring.shape[2])
            outputs.append(convolve(window_BTD))
            before_B = before_B + frames
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1), (ring, before_B)

    def _traced_step(
        self, x_BTD: Tensor, state: State, convolve: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, State]:
        """Return what `step` does, as a graph that is one for all positions and writes into nothing given.

        Raises: ValueError for more frames than the ring takes at once, and for rows at different positions.
        """
        ring, position = state
        frames = x_BTD.shape[1]
        if frames > PIECE_FRAMES:
            raise ValueError(f"a traced step takes at most {PIECE_FRAMES} frames, got {frames}")
        if position.dim():
            raise ValueError("a traced step takes one position for all rows")
        places_N = position + torch.arange(-self.context, frames, device=ring.device)
        written_T = places_N[self.context :] % self.size
        # One writing operation, so that what runs the graph can write into the ring where it lies.
        ring = ring.index_copy(
            1, torch.cat([written_T, written_T + self.size]), torch.cat([x_BTD, x_BTD], dim=1)
        )
        if self.left_padding == "replicate":
            # While a window reaches before the first frame, that one is still in its place, the first.
            places_N = places_N.clamp(min=0)
        return convolve(ring.index_select(1, places_N % self.size)), (ring, position + frames)

    def _push(self, ring: Tensor, x_BTD: Tensor, start: int) -> Tensor:
        """Write frames at `start` and at their mirrored places; return a view of context and frames."""
        frames, size = x_BTD.shape[1], self.size
        end = start + frames
        before_wrap = min(frames, size - start)
        ring[:, start:end] = x_BTD
        ring[:, start + size : start + size + before_wrap] = x_BTD[:, :before_wrap]
        ring[:, : frames - before_wrap] = x_BTD[:, before_wrap:]
        if end <= size:
            end += size
        return ring[:, end - self.context - frames : end]


@lru_cache(maxsize=256)
def _places(
    positions: tuple[int, ...], size: int, context: int, frames: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return where rows at these positions write frames in their rings of 2·size, and what they then see.

    As places in all rings one after the other: both times that a frame is kept, (B·2·frames,), and the window
    (B·(context + frames),). Kept, since the rings of all layers ask for the same.
    """
    first_B1 = torch.tensor(positions)[:, None]
    rings_B1 = 2 * size * torch.arange(len(positions))[:, None]
    written_BT = rings_B1 + (first_B1 + torch.arange(frames)) % size
    seen_BT = rings_B1 + (first_B1 + torch.arange(-context, frames)) % size
    written_N = torch.cat([written_BT, written_BT + size], dim=1).flatten()
    return written_N.to(device), seen_BT.flatten().to(device)


class CausalConv1d(nn.Conv1d):
    """Convolution of stride 1 over (B,T,D) whose output never sees the future; state: a `FrameRing`.

    Over few frames it is a product with the weights as they lie in memory: a convolution call lays out its
    weights anew each time, which costs more than the sum itself.
    """

    state_tensors = 2

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        groups: int = 1,
        bias: bool = True,
        left_padding: Padding = "replicate",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, groups=groups, bias=bias)
        # Stored with channels innermost, as frames lie in memory. Shape and key stay the same.
        self.weight = nn.Parameter(self.weight.detach().transpose(1, 2).contiguous().transpose(1, 2))
        self.left_padding = left_padding
        self.packed: nn.ModuleList | None = None

    def pack_weights(self, pack: PackLinear) -> None:
        """Pack the matrix of each wide group. Narrow ones are left as they are."""
        if self.in_channels // self.groups >= WIDE_GROUP:
            biases = [None] * self.groups if self.bias is None else self.bias.chunk(self.groups)
            self.packed = nn.ModuleList(
                pack(matrix, bias) for matrix, bias in zip(self._matrices(), biases, strict=True)
            )

    @property
    def context(self) -> int:
        """Frames before the current one that an output sees."""
        return self.kernel_size[0] - 1

    @property
    def ring(self) -> FrameRing:
        return FrameRing(self.context, self.left_padding)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Map (B,T,D_in) to (B,T,D_out)."""
        if self.left_padding == "zeros":
            return self.convolve(F.pad(x_BTD, (0, 0, self.context, 0)))
        return self.convolve(torch.cat([x_BTD[:, :1].expand(-1, self.context, -1), x_BTD], dim=1))

    def convolve(self, x_BTD: Tensor) -> Tensor:
        """Convolve without padding: (B, T+context, D_in) to (B,T,D_out)."""
        rows = x_BTD.shape[0] * (x_BTD.shape[1] - self.context)
        narrow = self.in_channels // self.groups < WIDE_GROUP
        if narrow and x_BTD.is_cpu:
            return self._convolve_in_fp32(x_BTD)
        if rows > FEW_ROWS or narrow:
            return F.conv1d(x_BTD.mT, self.weight, self.bias, groups=self.groups).mT
        groups_GBTd = x_BTD.unflatten(2, (self.groups, -1)).permute(2, 0, 1, 3)
        # The inputs of every frame side by side, (G,B,T,K,d): a copy that no matrix product can do without.
        windows = groups_GBTd.unfold(2, self.kernel_size[0], 1).transpose(3, 4)
        if self.packed is not None:
            pieces = [product(rows.flatten(2)) for product, rows in zip(self.packed, windows, strict=True)]
            return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)
        rows_GNE = windows.flatten(3).flatten(1, 2)
        products_GNd = torch.bmm(rows_GNE, self._matrices().mT)
        y_BTD = products_GNd.transpose(0, 1).flatten(1).unflatten(0, (x_BTD.shape[0], -1))
        return y_BTD if self.bias is None else y_BTD + self.bias

    def _convolve_in_fp32(self, x_BTD: Tensor) -> Tensor:
        """Convolve narrow groups whatever the autocast, into the dtype of the input.

        On CPUs with AMX, torch 2.13's bf16 kernels for 2 to 12 channels a group return values unrelated to
        the right ones (relative error 1.1, from 64 numbers under a kernel on; forward only). So few channels
        gain little from bf16, so that no CPU is asked which it is.
        """
        with torch.autocast("cpu", enabled=False):
            weight, bias = self.weight, self.bias
            if weight.dtype in HALVES:
                weight, bias = weight.float(), None if bias is None else bias.float()
            x_BDT = x_BTD.to(weight.dtype).mT
            return F.conv1d(x_BDT, weight, bias, groups=self.groups).mT.to(x_BTD.dtype)

    def _matrices(self) -> Tensor:
        """Return a view of the weights as one matrix per group, (G, D_out / G, K·D_in / G)."""
        return self.weight.unflatten(0, (self.groups, -1)).transpose(2, 3).flatten(2)

    def init_state(self, batch_size: int) -> State:
        return self.ring.init_state(batch_size, self.in_channels, like=self.weight)

    def step(self, x_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        """Map the next n frames (B,n,D_in) to (B,n,D_out); writes into the ring."""
        # No decorator: a graph would hold two switches for every convolution, and take far longer to make.
        if not torch.is_grad_enabled():
            return self.ring.step(x_BTD, state, self.convolve)
        with torch.no_grad():
            return self.ring.step(x_BTD, state, self.convolve)
