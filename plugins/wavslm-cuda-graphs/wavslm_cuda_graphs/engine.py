"""The engine `cuda_graphs`: a step is recorded once over fixed memory, and replayed for every chunk.

A replay reads and writes where it was recorded: one place for x, y and each tensor of the state. Who steps
gets tensors that lie there; when another stream comes, they move out to memory of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from weakref import ref

import torch
from torch import Tensor, nn

from wavslm_core.plugin import State, WavslmError
from wavslm_cuda_graphs.program import in_place_program

Step = Callable[[Tensor, State], tuple[Tensor, State]]
Call = Callable[[], Tensor]

WARM_UPS = 3
"""Steps before the recording, in which libraries choose kernels and ask for memory."""
FAR = 1000
"""How much further a stream is where it is tried what a step adds to its positions."""


def compiled(step: nn.Module, x: Tensor, state: State, *, weights: str) -> Step:
    """Return what maps a chunk and a state, shaped as `x` and `state`, to y and the next state.

    Raises: WavslmError unless they are on a CUDA GPU, and where the step cannot be recorded;
    torch.OutOfMemoryError.
    """
    named = type(getattr(step, "part", step)).__name__
    if not x.is_cuda:
        missing = "" if torch.cuda.is_available() else "; PyTorch sees none here"
        raise WavslmError(
            f"the engine cuda_graphs records steps on a CUDA GPU{missing}, but the step of {named} is on "
            f"{x.device}. Move the model with .to('cuda'), or give another engine"
        )
    return RecordedStep(step, x, state, record=on_gpu, named=named)


def on_gpu(call: Call) -> Call:
    """Record a call as a CUDA graph; return what replays it and gives its result, in the same memory.

    Raises: RuntimeError of torch for what cannot be recorded.
    """
    current, beside = torch.cuda.current_stream(), torch.cuda.Stream()
    beside.wait_stream(current)
    with torch.cuda.stream(beside):
        for _ in range(WARM_UPS):
            call()
    current.wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    # Other threads, such as those that load data, may do meanwhile what a recording cannot hold. The stream
    # is one of this device, which the one that torch takes by itself need not be.
    with torch.cuda.graph(graph, stream=beside, capture_error_mode="thread_local"):
        y = call()

    def replay() -> Tensor:
        graph.replay()
        return y

    return replay


class RecordedStep:
    """A recorded step, over the states of any number of streams, one at a time."""

    def __init__(
        self, step: nn.Module, x: Tensor, state: State, *, record: Callable[[Call], Call], named: str
    ) -> None:
        """`record`: makes of a call what repeats it, over the same memory. Raises: as `compiled`."""
        self._numbers = [tensor.dim() == 0 and tensor.device.type == "cpu" for tensor in state]
        _check_devices(x, state, self._numbers, named)
        self._x = x.clone(memory_format=torch.contiguous_format)
        self._held = [tensor.to(x.device).clone(memory_format=torch.contiguous_format) for tensor in state]
        """Where the state lies that a replay reads, and leaves."""
        self._lent: list[Callable[[], Tensor | None]] = [_nothing] * len(state)
        """What was given of it: tensors that lie there, as long as somebody has them."""
        self._known = [0] * len(state)
        """Of numbers, such as positions, what they are now: to read them from a GPU would wait for it."""
        self._lock = Lock()
        with torch.cuda.device_of(x), torch.no_grad():
            # Kept, since a recording reads the weights where they lie, and holds none of them.
            self._program = in_place_program(step, self._x, self._held, named=named)
            self._added = self._find_added(state, named)
            try:
                self._replay = record(lambda: self._program(self._x, self._held))
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise WavslmError(
                    f"the engine cuda_graphs cannot record the step of {named}: {error}. Leave the engine "
                    "out, and the model steps as it is"
                ) from error
        self._known = [-1] * len(state)

    def __call__(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        with self._lock, torch.cuda.device_of(self._x):
            self._take(state)
            self._x.copy_(x)
            y = self._replay().clone()
            return y, self._left()

    def _take(self, state: Sequence[Tensor]) -> None:
        """Bring a state to where a replay reads it; what lies there already stays."""
        others = []
        for place, tensor in enumerate(state):
            if self._numbers[place]:
                number = int(tensor)
                if number != self._known[place]:
                    self._held[place].fill_(number)
                    self._known[place] = number
            elif self._lent[place]() is not tensor:
                others.append(place)
        for place in others:
            lent = self._lent[place]()
            if lent is not None:
                # Whoever has it finds the same numbers in it afterwards.
                lent.data = lent.clone()
            self._lent[place] = _nothing
        if others:
            torch._foreach_copy_([self._held[place] for place in others], [state[place] for place in others])

    def _left(self) -> State:
        """Return the state that a replay left."""
        left = []
        for place, held in enumerate(self._held):
            if self._numbers[place]:
                self._known[place] += self._added[place]
                left.append(torch.tensor(self._known[place]))
                continue
            lent = self._lent[place]()
            if lent is None:
                lent = held.detach()
                self._lent[place] = ref(lent)
            left.append(lent)
        return tuple(left)

    def _find_added(self, state: State, named: str) -> list[int]:
        """Return what a step adds to each number of the state: as much wherever the stream is."""
        found = []
        for further in (0, FAR):
            for held, tensor in zip(self._held, state, strict=True):
                held.copy_(tensor)
            starts = [
                int(tensor) + further if self._numbers[place] else 0 for place, tensor in enumerate(state)
            ]
            for place, start in enumerate(starts):
                if self._numbers[place]:
                    self._held[place].fill_(start)
            self._program(self._x, self._held)
            found.append(
                [
                    int(held) - starts[place] if self._numbers[place] else 0
                    for place, held in enumerate(self._held)
                ]
            )
        if found[0] != found[1]:
            raise WavslmError(
                f"the engine cuda_graphs cannot record the step of {named}: a number of its state is no "
                f"position, as a step adds {found[0]} early and {found[1]} late. Leave the engine out, and "
                "the model steps as it is"
            )
        return found[0]


def _nothing() -> None:
    return None


def _check_devices(x: Tensor, state: State, numbers: Sequence[bool], named: str) -> None:
    for tensor, number in zip(state, numbers, strict=True):
        if not number and tensor.device != x.device:
            raise WavslmError(
                f"the engine cuda_graphs cannot record the step of {named}: its state holds "
                f"{[*tensor.shape]} {tensor.dtype} on {tensor.device}, and only numbers without a dimension "
                f"may lie elsewhere than on {x.device}"
            )
