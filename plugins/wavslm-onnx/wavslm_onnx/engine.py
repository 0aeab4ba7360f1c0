"""The engine `onnxruntime`: steps of parts as ONNX graphs, run over the tensors of torch without copying.

State that a graph writes into at one place (a ring, keys and values) is written where it lies. Smaller
tensors of state live in two copies, which take turns as what is read and what is written.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime
import torch
from torch import Tensor, nn

from wavslm_core.plugin import State, WavslmError

Step = Callable[[Tensor, State], tuple[Tensor, State]]
KEPT_STREAMS = 4
"""Streams that take turns without their memory being bound anew."""
WRITES = ("ScatterElements", "ScatterND")
"""Operators of onnxruntime that write into their first input where that is also their output."""


def compiled(step: nn.Module, x: Tensor, state: State, *, weights: str) -> Step:
    """Return what maps a chunk and a state, shaped as `x` and `state`, to y and the next state.

    Takes seconds, and minutes for hundreds of millions of weights; files are gone afterwards.
    Raises: WavslmError where the graph cannot be made.
    """
    try:
        from wavslm_onnx.export import round_weights, write_graph
    except ImportError as error:
        raise WavslmError(
            f"the engine onnxruntime makes graphs, which needs {error.name}: "
            "pip install 'wavslm-onnx[export]'"
        ) from None
    names = [f"state_{place}" for place in range(len(state))]
    outputs = ["y", *(f"next_{name}" for name in names)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Each step has threads of its own. Those that wait by spinning would have the cores when the next steps,
    # in torch or here, want them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory(prefix="wavslm-onnx-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "step.onnx"
        write_graph(step, (x, *state), path, inputs=["x", *names], outputs=outputs)
        in_place = _written_in_place(path, names)
        if weights == "int8":
            # Sums of two products overflow 16 bits where CPUs lack VNNI, unless weights take 7.
            round_weights(path, seven_bits=not torch.cpu._is_vnni_supported())
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        y = step(x, *(tensor.clone() for tensor in state))[0]
    return GraphStep(session, outputs, y, in_place)


def _written_in_place(path: Path, names: list[str]) -> list[bool]:
    """Return which tensors of state are only ever read by the one operator that writes their next value."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    found = []
    for name in names:
        readers = [node for node in graph.node if name in node.input]
        writes = len(readers) == 1 and readers[0].op_type in WRITES and readers[0].input[0] == name
        found.append(writes and f"next_{name}" in readers[0].output)
    return found


class GraphStep:
    """A step of a graph, over the states of any number of streams."""

    def __init__(self, session: Any, outputs: list[str], y: Tensor, in_place: list[bool]) -> None:
        self._session = session
        self._outputs = outputs
        self._y = torch.empty_like(y)
        self._in_place = in_place
        self._x: Tensor | None = None
        self._turns: OrderedDict[tuple[int, ...], _Turn] = OrderedDict()
        """What was bound last, by where the tensors of the state lie."""

    def __call__(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        if self._x is None:
            self._x = torch.empty_like(x, memory_format=torch.contiguous_format)
        places = _places(state)
        turn = self._turns.get(places)
        if turn is None:
            turn = self._bind(places, state)
        else:
            self._turns.move_to_end(places)
        self._x.copy_(x)
        self._session.run_with_iobinding(turn.binding)
        return self._y.clone(), turn.left

    def _bind(self, places: tuple[int, ...], state: State) -> _Turn:
        """Bind a state, and the one that a step leaves of it."""
        here = tuple(tensor.contiguous() for tensor in state)
        there = tuple(
            tensor if stays else torch.empty_like(tensor)
            for tensor, stays in zip(here, self._in_place, strict=True)
        )
        turn = self._turn(here, there)
        if _places(here) == places:
            self._turns[places] = turn
            self._turns[_places(there)] = self._turn(there, here)
            while len(self._turns) > 2 * KEPT_STREAMS:
                self._turns.popitem(last=False)
        return turn

    def _turn(self, given: State, left: State) -> _Turn:
        binding = self._session.io_binding()
        assert self._x is not None
        for name, tensor in zip(self._session.get_inputs(), (self._x, *given), strict=True):
            if tensor.numel():
                binding.bind_input(name.name, *_memory(tensor))
            else:
                binding.bind_cpu_input(name.name, tensor.numpy())
        for name, tensor in zip(self._outputs, (self._y, *left), strict=True):
            # What holds no numbers has no memory to be written to, and is as it was.
            if tensor.numel():
                binding.bind_output(name, *_memory(tensor))
        return _Turn(binding, given, left)


class _Turn(NamedTuple):
    """A state that is read, and the one that is written, bound to a graph; it keeps the memory of both."""

    binding: Any
    given: State
    left: State


def _places(state: State) -> tuple[int, ...]:
    return tuple(tensor.data_ptr() for tensor in state)


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    """Return where a tensor lies, as bindings want to know it."""
    return "cpu", 0, tensor.numpy().dtype.type, list(tensor.shape), tensor.data_ptr()
