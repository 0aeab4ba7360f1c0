"""Models as they run fastest: which weights and which engine, and parts whose steps an engine makes.

A step of one chunk goes through the engine, of one row or of as many as were asked for; whatever else there
is to do (whole sequences, several chunks at once, other numbers of rows or rows at different places, the very
first step of a stream) stays with torch, over the same states. So streams may go on in either, and every
promise of a part holds with any engine.

All that a language model does for a chunk, from what the backbone reads to the tokens that are drawn, is one
step of an engine that gains by it, where head and sampler can be made a graph.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from wavslm_core.errors import WavslmError, did_you_mean, summary
from wavslm_core.machine.timings import in_turns, remembered
from wavslm_core.model.chunk_step import ChunkEngine, ChunkStep
from wavslm_core.parts.engines import TORCH, Engine
from wavslm_core.parts.facts import BackboneFacts, CodecFacts
from wavslm_core.parts.interfaces import Backbone, Head, Part, Quantizer, Sampler, State
from wavslm_core.parts.packing import (
    PACKERS,
    ROWS_HINT,
    Int8Linear,
    device_type,
    inference_copy,
    int8_kernels,
    join_products,
    mark_packed,
    not_for_gpus,
    packed_copy,
)
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.registry import how_to_install, known_providers
from wavslm_core.parts.streaming import stream_mode

AUTO = "auto"
CPU = torch.device("cpu")
WORTH = 0.9
"""Coarser weights are taken where they need at most this share of the time."""
ROUNDS = 20
AGREEMENT = {"fp32": 1e-3, "bf16": 0.2, "int8": 0.3}
"""Largest relative difference of what an engine gives to what torch gives, before it is called broken."""
MOST_DIFFERING = 0.5
"""Largest share of an engine's tokens that are not torch's, in fp32."""
CHECKED_STEPS = 3

FULL_CHUNKS = 128
"""Chunks that fill the windows of usual models: attention over a few frames is not what a stream pays for."""

ModuleT = TypeVar("ModuleT", bound=nn.Module)
BuiltT = TypeVar("BuiltT")
Step = Callable[[Tensor, State], tuple[Tensor, State]]


@dataclass(frozen=True)
class Way:
    """A kind of weights, and what runs the steps."""

    weights: str
    engine: str

    def __str__(self) -> str:
        return f"{self.weights}, {self.engine}"


class Traceable(nn.Module):
    """A way in which a part steps, as a module of its own: `forward(x, *state)` gives y and state."""

    def __init__(self, part: nn.Module, name: str) -> None:
        super().__init__()
        self.part = part
        self.name = name

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        y, next_state = getattr(self.part, self.name)(x, state)
        return (y, *next_state)


class EngineStep:
    """Stands for a part's `step`: one chunk goes through the engine, all else through torch."""

    def __init__(self, plain: Step, fast: Mapping[int, Step], x: Tensor, state: State) -> None:
        """`fast`: by how many rows there are, which are at one place of their streams."""
        self.plain = plain
        self.fast = fast
        self.kind = x.shape[1:], x.dtype
        self.position = next((place for place, tensor in enumerate(state) if not tensor.ndim), None)
        """Where a position stands in the state (`streaming.new_position`): zero before the first step."""

    def __call__(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        fast = self.fast.get(len(x))
        if fast is None or (x.shape[1:], x.dtype) != self.kind:
            return self.plain(x, state)
        if self.position is not None:
            position = state[self.position]
            # Rows have positions of their own where they are at different places of their streams.
            if position.ndim or int(position) == 0:
                return self.plain(x, state)
        return fast(x, state)

    def __getstate__(self) -> dict[str, Any]:
        """What an engine made lives in this process: a pickled step is torch's."""
        return {**self.__dict__, "fast": {}}

    def __deepcopy__(self, memo: dict[int, Any]) -> EngineStep:
        """The copy of a part has the same weights, and shares what the engine made of them."""
        copied = copy.copy(self)
        copied.fast = self.fast
        copied.plain = copy.deepcopy(self.plain, memo)
        return copied


def ways(weights: str, engine: str, *, device: str = "cpu", rows: Sequence[int] = (1,)) -> list[Way]:
    """Return what `weights` and `engine` allow here, the finest weights first, torch before others.

    `device`: the type of device that the model is on. Raises: WavslmError for what is unknown, not installed,
    or cannot go together.
    """
    if not rows or any(type(count) is not int or count < 1 for count in rows):
        raise WavslmError(f"rows={rows!r} must be numbers of 1 or more, such as rows=(1, 4)")
    found = {held.name: held for held in load_registry().engines()}
    kinds = [*PACKERS]
    if weights not in (*kinds, AUTO):
        raise WavslmError(
            f"weights='{weights}' is not a kind of packed weights; allowed: {', '.join((*kinds, AUTO))}."
            + did_you_mean(weights, (*kinds, AUTO))
        )
    if engine not in (AUTO, TORCH, *found):
        raise WavslmError(_unknown(engine, found))
    here = {name: held for name, held in found.items() if held.device == device}
    if engine == TORCH and device != "cpu":
        raise not_for_gpus(device)
    if engine in found and engine not in here:
        raise _elsewhere(found[engine], device, [AUTO, *([TORCH] if device == "cpu" else []), *here])
    # To torch, any number of rows is the same.
    single = [name for name, held in here.items() if not held.any_rows and {*rows} != {1}]
    if engine in single:
        others = [name for name, held in found.items() if held.any_rows]
        raise WavslmError(
            f"the engine {engine} makes steps of one row, got rows={rows!r}: leave it out"
            + (f", or give one that makes steps of several: {', '.join(others)}" if others else "")
        )
    wanted = kinds if weights == AUTO else [weights]
    engines = [TORCH, *(name for name in here if name not in single)] if engine == AUTO else [engine]
    by_torch = kinds if device == "cpu" else kinds[:1]
    able = {AUTO: by_torch, TORCH: by_torch, **{name: held.weights for name, held in here.items()}}
    allowed = [Way(kind, name) for kind in wanted for name in engines if kind in able[name]]
    if not allowed:
        place = "" if device == "cpu" else f" on {device}"
        raise WavslmError(
            f"the engine {engine} cannot compute with weights='{weights}'{place}; allowed: "
            f"{', '.join((*able[engine], AUTO))}"
            + (f". Or give engine='{TORCH}'" if device == "cpu" else ". Or move the model with .to('cpu')")
        )
    return allowed


def cpu_only(weights: str | None, engine: str | None) -> str | None:
    """Return which of the options `--weights` and `--engine` works on the CPU alone, as given; None: neither.

    None stands for what was not given.
    """
    if weights not in (None, "fp32", AUTO):
        return f"--weights {weights}"
    others = {held.name for held in load_registry().engines() if held.device != "cpu"}
    if engine is None:
        return None if weights is None else f"--weights {weights}"
    return None if engine == AUTO or engine in others else f"--engine {engine}"


def _elsewhere(engine: Engine, device: str, allowed: Sequence[str]) -> WavslmError:
    """Return what is wrong with an engine for another device than the one the model is on."""
    missing = engine.device == "cuda" and not torch.cuda.is_available()
    return WavslmError(
        f"the engine {engine.name} computes on {engine.device}, but the model is on {device}"
        + (" and PyTorch sees no CUDA GPU here" if missing else f". Move it with .to('{engine.device}')")
        + f". Or give another engine: {', '.join(allowed)}"
    )


def _unknown(engine: str, found: Mapping[str, Engine]) -> str:
    names = (AUTO, TORCH, *found)
    provider = known_providers("engine").get(engine)
    message = f"no engine is called '{engine}'; installed: {', '.join(names)}."
    if provider is None:
        return message + did_you_mean(engine, {*names, *known_providers("engine")})
    failures = load_registry().load_errors
    if provider in failures:
        return f"{message} '{engine}' comes with {provider}, which failed to load: {failures[provider]}"
    return f"{message} '{engine}' comes with {provider}{how_to_install(provider)}"


def worthwhile(
    allowed: list[Way],
    key: Mapping[str, Any],
    build: Callable[[Way], BuiltT],
    call: Callable[[BuiltT], Callable[[], object]],
) -> BuiltT:
    """Return what `build` makes in the way that is worth taking on this machine.

    One way is taken as it is. Several are timed, once on a kind of machine for models of these sizes: `call`
    gives a step of what was built. Of those that need about the least time, the finest is taken.
    """
    if len(allowed) == 1:
        return build(allowed[0])
    built: dict[str, BuiltT] = {}

    def measure() -> dict[str, float]:
        for way in allowed:
            try:
                built[str(way)] = build(way)
            except WavslmError as error:
                if way.engine == TORCH:
                    raise
                warnings.warn(f"not used: {error}", stacklevel=2)
        return in_turns({name: call(model) for name, model in built.items()}, rounds=ROUNDS)

    document = {
        **key,
        "ways": [str(way) for way in allowed],
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }
    seconds = remembered(document, measure)
    way = worth_taking(allowed, seconds)
    return built[str(way)] if str(way) in built else build(way)


def worth_taking(allowed: list[Way], seconds: Mapping[str, float]) -> Way:
    """Return the fastest way with the finest weights, unless coarser ones save a tenth of the time."""
    best = allowed[0]
    for kind in dict.fromkeys(way.weights for way in allowed):
        way = min(
            (way for way in allowed if way.weights == kind), key=lambda way: seconds.get(str(way), math.inf)
        )
        least = seconds.get(str(best), math.inf)
        # The finest kind begins: among its engines the fastest is taken without more ado.
        share = 1.0 if kind == allowed[0].weights else WORTH
        if seconds.get(str(way), math.inf) <= share * least:
            best = way
    return best


def sizes(*parts: Part[Any]) -> dict[str, Any]:
    """Return what tells models of other sizes apart: options of parts, and how many weights they have."""
    return {
        part.config.role: {
            "config": part.config.model_dump(mode="json"),
            "weights": sum(parameter.numel() for parameter in part.parameters()),
        }
        for part in parts
    }


def situation(device: str, rows: Sequence[int]) -> dict[str, Any]:
    """Return what else timings depend on, if it is not a CPU and one row."""
    if device == "cpu" and {*rows} == {1}:
        return {}
    return {"rows": max(rows), "gpu": torch.cuda.get_device_name() if device == "cuda" else device}


def packed(module: ModuleT, weights: str) -> ModuleT:
    """Return a copy whose linears are packed for what is fastest here: on GPUs, they are as they were.

    Raises: as `packed_copy`.
    """
    if device_type(module) != "cpu":
        copied = inference_copy(module)
        mark_packed(copied, weights)
        return copied
    return packed_copy(module, weights=weights, kernel=fastest_int8_kernel() if weights == "int8" else None)


@cache
def fastest_int8_kernel() -> str:
    """Return which of `int8_kernels()` needs the least time for a stream's few rows on this machine."""
    kernels = int8_kernels()
    if len(kernels) == 1:
        return kernels[0]
    key = {
        "what": "int8 linears, four rows",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "kernels": kernels,
    }
    seconds = remembered(key, lambda: _int8_timings(kernels))
    return min(kernels, key=lambda name: seconds.get(name, math.inf))


@torch.no_grad()
def _int8_timings(kernels: Sequence[str]) -> dict[str, float]:
    """Time sixteen matrices, more than caches near the processor hold, as the layers of a model are."""
    weight_NK, x = torch.randn(1024, 1024), torch.randn(ROWS_HINT, 1024)
    packed = {name: [Int8Linear(weight_NK, None, kernel=name) for _ in range(16)] for name in kernels}
    calls = {name: partial(_apply_all, linears, x) for name, linears in packed.items()}
    return in_turns(calls, rounds=9)


def _apply_all(linears: Sequence[nn.Module], x: Tensor) -> None:
    for linear in linears:
        linear(x)


@dataclass(frozen=True)
class Flow:
    """A way in which a part of a model steps."""

    part: str
    """Name of the part in the model; "": the model is the part."""
    step: str
    start: str
    """Names of the methods that step, and that make a state."""
    x: Tensor
    """A chunk of input, of a batch of one."""

    def batch(self, rows: int) -> Flow:
        """Return the same of so many rows."""
        return replace(self, x=self.x.repeat(rows, *[1] * (self.x.dim() - 1)))

    def of(self, module: nn.Module) -> tuple[Any, Step, Callable[[int], State]]:
        """Return the part of a model, and its two methods."""
        part = module.get_submodule(self.part)
        return part, getattr(part, self.step), getattr(part, self.start)


def codec_flows(facts: CodecFacts, *, tokens: int | None = None, device: torch.device = CPU) -> list[Flow]:
    """Return how a codec steps: by the chunk, and decoding by `tokens` (a chunk by default)."""
    tokens = facts.chunk_tokens if tokens is None else tokens
    frames = facts.frames(tokens)
    features = torch.zeros(1, facts.chunk_frames, facts.encoder.output_dim)
    flows: list[Flow] = []
    if facts.encoder.streams:
        flows.append(Flow("encoder", "step", "init_state", torch.zeros(1, facts.chunk_samples_in)))
    if facts.quantizer.streams:
        flows.append(Flow("quantizer", "encode_step", "init_encode_state", features))
        ids = torch.zeros(1, tokens, dtype=torch.int64)
        flows.append(Flow("quantizer", "decode_step", "init_decode_state", ids))
    if facts.decoder.streams:
        x = torch.zeros(1, frames, facts.quantizer.output_dim)
        flows.append(Flow("decoder", "step", "init_state", x))
    return [replace(flow, x=flow.x.to(device)) for flow in flows]


def backbone_flows(
    facts: BackboneFacts, *, width: int, tokens: int, device: torch.device = CPU
) -> list[Flow]:
    """Return how a backbone steps that reads `tokens` at a time: features of that width, or tokens."""
    if not facts.streams:
        return []
    x = torch.zeros(1, tokens, width) if facts.input == "features" else torch.zeros(1, tokens).long()
    return [Flow("", "step", "init_state", x.to(device))]


def joined_copy(module: ModuleT) -> ModuleT:
    """Return a copy for inference as engines want it: nothing is packed, products are joined."""
    source = inference_copy(module)
    join_products(source)
    return source


def fast_copy(
    module: ModuleT,
    way: Way,
    flows: Sequence[Flow],
    *,
    source: ModuleT | None = None,
    rows: Sequence[int] = (1,),
) -> ModuleT:
    """Return a copy of a module for inference whose linears are packed and which steps as `way` says.

    `source`: its `joined_copy`, if there is one. `rows`: for how many of them at a time the engine makes
    steps. Raises: WavslmError as `packed_copy`, and where an engine fails or gives something else than torch.
    """
    if way.engine == TORCH:
        return packed(module, way.weights)
    source = joined_copy(module) if source is None else source
    if way.weights == "fp32":
        # What is left to torch takes the weights as they are: laid out anew they would be held a third time.
        copied = inference_copy(module)
        mark_packed(copied, way.weights)
    else:
        copied = packed(module, way.weights)
    compiled = _engine(way).load()
    for flow in flows:
        part, plain, start = flow.of(copied)
        fast: dict[int, Step] = {}
        with stream_mode():
            traced = Traceable(flow.of(source)[0], flow.step)
            for count in dict.fromkeys(rows):
                x, state = flow.batch(count).x, start(count)
                fast[count] = compiled(traced, x, state, weights=way.weights)
                _, begun = plain(x, start(count))
                _agree(plain, fast[count], _varied(x), begun, way)
        setattr(part, flow.step, EngineStep(plain, fast, flow.x, start(1)))
    return copied


def chunk_engine(
    quantizer: Quantizer[Any] | None,
    backbone: Backbone[Any],
    head: Head[Any],
    sampler: Sampler,
    way: Way,
    *,
    rows: Sequence[int] = (1,),
) -> ChunkEngine | None:
    """Return what makes a language model's whole step for a chunk: copies of parts, as `joined_copy` gives.

    `rows`: as in `fast_copy`. None, with a warning, where head or sampler cannot be made a graph: they step
    as torch does then, the other parts one by one. Raises: WavslmError where it gives something else than
    torch.
    """
    generator = torch.Generator().manual_seed(0)
    checks: list[tuple[Step, list[Tensor], State]] = []
    fast: dict[int, Step] = {}
    try:
        compiled = _engine(way).load()
        step = ChunkStep(quantizer, backbone, head, sampler).eval()
        device = step.next.device
        for count in dict.fromkeys(rows):
            state = step.after(torch.zeros(count, step.next.tokens, dtype=torch.int64, device=device))
            numbers = torch.rand(CHECKED_STEPS, count, step.uniforms, generator=generator).to(device)
            with stream_mode():
                fast[count] = compiled(step, numbers[0], state, weights=way.weights)
            checks.append((fast[count], [*numbers], state))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        described = load_registry().described
        warnings.warn(
            f"the engine {way.engine} steps part by part, and draws as {TORCH} does: no graph of "
            f"{described(head.config)} and {described(sampler.config)} can be made ({summary(error)})",
            stacklevel=2,
        )
        return None
    with stream_mode():
        for made, inputs, state in checks:
            _agree(step.of_torch, made, inputs, state, way, hidden=ChunkStep.HIDDEN)
    return ChunkEngine(step, fast)


def makes_whole_chunks(way: Way) -> bool:
    """Return whether a language model's whole step is to be one of this engine."""
    return way.engine != TORCH and _engine(way).whole_chunks


def _engine(way: Way) -> Engine:
    return next(held for held in load_registry().engines() if held.name == way.engine)


@stream_mode()
def turn(module: nn.Module, flows: Sequence[Flow], *, rows: int = 1) -> Callable[[], object]:
    """Return a call that makes a step of every flow, of so many rows, with their windows full."""
    states, flows = [], [flow.batch(rows) for flow in flows]
    for flow in flows:
        _, step, start = flow.of(module)
        longer = flow.x.repeat(1, FULL_CHUNKS, *[1] * (flow.x.ndim - 2))
        states.append(step(longer, start(len(flow.x)))[1])

    @stream_mode()
    def call() -> None:
        for place, flow in enumerate(flows):
            _, states[place] = flow.of(module)[1](flow.x, states[place])
        if any(flow.x.is_cuda for flow in flows):
            torch.cuda.synchronize()

    return call


def _varied(x: Tensor) -> list[Tensor]:
    """Return inputs to check an engine with."""
    if not x.is_floating_point():
        return [x] * CHECKED_STEPS
    generator = torch.Generator().manual_seed(0)
    return [x + 0.1 * torch.randn(x.shape, generator=generator).to(x.device) for _ in range(CHECKED_STEPS)]


def _agree(
    plain: Step, fast: Step, inputs: Sequence[Tensor], state: State, way: Way, *, hidden: int | None = None
) -> None:
    """Raise WavslmError where the engine's steps from a state on are not torch's.

    `hidden`: place in the state of numbers that do not depend on what the step draws.
    """
    ours = tuple(tensor.clone() for tensor in state)
    theirs = tuple(tensor.clone() for tensor in state)
    differing = 0.0
    for number, given in enumerate(inputs):
        expected, ours = plain(given, ours)
        found, theirs = fast(given, theirs)
        if hidden is not None and number == 0:
            # Later ones follow from what was drawn.
            _check_close(theirs[hidden], ours[hidden], way)
        if found.shape != expected.shape:
            raise _disagreement(way, f"{[*found.shape]} instead of {[*expected.shape]}")
        if not expected.is_floating_point():
            differing += (found != expected).float().mean().item() / len(inputs)
            continue
        _check_close(found, expected, way)
    # Rounding changes a token here and there.
    if way.weights == "fp32" and differing > MOST_DIFFERING:
        raise _disagreement(way, f"{100 * differing:.0f} % of the tokens differ")


def _check_close(found: Tensor, expected: Tensor, way: Way) -> None:
    error = (found - expected).norm() / expected.norm().clamp(min=1e-6)
    if not error <= AGREEMENT[way.weights]:
        raise _disagreement(way, f"relative difference {float(error):.2g}")


def _disagreement(way: Way, how: str) -> WavslmError:
    return WavslmError(
        f"the engine {way.engine} with {way.weights} weights gives something else than torch ({how}). Give "
        f"engine='{TORCH}', or update what the engine needs"
    )
