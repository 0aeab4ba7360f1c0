"""What bf16 does to a batch, measured on the parts at hand, and how much of that rounding explains.

What a device claims is not enough. A kernel may be wrong for one shape (torch 2.13's bf16 convolutions of
narrow groups are, on CPUs with AMX), a part may subtract large numbers that differ in their last bits. So a
batch passes forward and backward three times, without dropout: in fp32; in fp32 with what every product reads
and gives rounded to bf16; and as training would, under autocast. The second tells how far rounding alone
takes outputs, loss and gradients from fp32; the third must not be much further away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from wavslm_core.machine.processes import ALONE, Processes
from wavslm_core.model.weights import own_part

Arithmetic = Literal["fp32", "bf16"]
PASSES: tuple[tuple[Arithmetic, bool], ...] = (("fp32", False), ("fp32", True), ("bf16", False))
"""Arithmetic, and whether products are rounded: the reference, what rounding does, what training would do."""

EXPLAINED = 4.0
"""How many times as far from fp32 as rounding alone may take it a number may be."""
UNSUSPICIOUS = 0.05
"""Errors up to this are right whatever rounding did to the same number: it may have been lucky."""
USELESS = 0.7
"""From this error on a number is wrong even if rounding explains it: nobody wants to train with that."""
SAMPLE = 4096
"""Values of each output that are compared, evenly spread."""
ROUNDED = (
    *("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "linear"),
    *("convolution", "convolution_backward", "mkldnn_rnn_layer", "_cudnn_rnn"),
)
"""What autocast computes in bf16, by the names of the operators; attention begins with `ATTENTION`."""
ATTENTION = "_scaled_dot_product"


def autocast(arithmetic: Arithmetic, device: torch.device) -> AbstractContextManager[object]:
    """Return a fresh context under which forward passes run in that arithmetic."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if arithmetic == "bf16" else nullcontext()


@dataclass(frozen=True)
class Deviation:
    """How far something is from fp32, relative to it (norms), and how far rounding alone takes it."""

    what: str
    """A part's or module's name, or `loss`."""
    of: Literal["output", "gradient", "loss"]
    error: float
    rounding: float

    @property
    def allowed(self) -> float:
        return min(max(UNSUSPICIOUS, EXPLAINED * self.rounding), USELESS)

    @property
    def wrong(self) -> bool:
        """True, too, when it is not a number."""
        return not self.error <= self.allowed

    def worse_of(self, other: Deviation | None) -> Deviation:
        """Return this or another measurement of the same: one that is wrong before one that is right."""
        if other is None or (self.wrong, self.error) > (other.wrong, other.error):
            return self
        return other

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "allowed": self.allowed}

    def __str__(self) -> str:
        name = "the loss" if self.of == "loss" else f"the {self.of} of {self.what}"
        return f"{name} is off by {self.error:.2%} (rounding explains {self.rounding:.2%})"


@dataclass(frozen=True)
class PrecisionProof:
    """What bf16 did to a batch; `inner` has what goes on inside the parts, in the order of computation."""

    rows: tuple[Deviation, ...]
    inner: tuple[Deviation, ...] = ()
    player: str = ""
    """Whose batch it was, where several train."""
    step: int = 0
    """Of which step."""

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the rows as results hold them."""
        own = {"player": self.player, "step": self.step} if self.player else {"step": self.step}
        return [own | row.to_dict() for row in self.rows]

    @property
    def culprit(self) -> Deviation | None:
        """Where it goes wrong first: the innermost module on the way forward, else on the way back."""
        outputs = [row for row in (*self.inner, *self.rows) if row.of == "output"]
        gradients = [row for row in reversed(self.rows) if row.of == "gradient"]
        losses = [row for row in self.rows if row.of == "loss"]
        return next((row for row in (*outputs, *gradients, *losses) if row.wrong), None)

    def table(self) -> list[str]:
        """Return lines that say how far bf16 takes a batch from fp32, and how far rounding alone would."""
        lines = [f"{'bf16 against fp32':<24}{'is off by':>10}{'rounding':>10}{'allowed':>10}"]
        for row in self.rows:
            name = row.what if row.of == "loss" else f"{row.what}, {row.of}"
            verdict = "  WRONG" if row.wrong else ""
            numbers = "".join(f"{value:>10.2%}" for value in (row.error, row.rounding, row.allowed))
            lines.append(f"{name:<24}{numbers}{verdict}")
        return lines if self.culprit is None else [*lines, f"first wrong: {self.culprit}"]


def prove(
    loss: Callable[[], Tensor],
    parts: Mapping[str, nn.Module],
    *,
    device: torch.device,
    processes: Processes = ALONE,
    pass_context: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> PrecisionProof:
    """Pass a batch through `parts` in fp32 and in bf16, and compare; nothing is changed by it.

    `loss` computes the same scalar whenever it is called with the same weights. `pass_context` is entered
    around each forward and backward pass. Every process must call this; all get the same proof.
    """
    passes: list[_Pass] = []
    for arithmetic, rounding in PASSES:
        one = _Pass(parts, reference=passes[0] if passes else None)
        one.forget_gradients()
        # Buffers are put back after each pass: what learns in one must not be another part in the next.
        with _unchanged(parts.values()), pass_context(), _no_dropout(parts.values()), ExitStack() as stack:
            if rounding:
                stack.enter_context(_RoundedProducts())  # type: ignore[no-untyped-call]
            with one.listening(), autocast(arithmetic, device):
                value = loss()
            value.backward()
        one.finish(value)
        passes.append(one)
    _, rounded, given = passes
    return _agreed(given.deviations(rounded), processes)


class _Pass:
    """What one forward and backward pass gave, or how far it is from what another one gave."""

    def __init__(self, parts: Mapping[str, nn.Module], *, reference: _Pass | None) -> None:
        self.parts = parts
        self.reference = reference
        self.outputs: dict[tuple[str, int], Tensor] = {}
        self.loss = math.nan
        self.gradients: dict[str, list[Tensor]] = {}
        self.errors: dict[tuple[str, str, int], float] = {}
        """(name, what of it, number of the call) → error relative to the reference."""
        self._calls: dict[str, int] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take samples of what every module gives while this is open."""
        handles = [
            module.register_forward_hook(self._hook(f"{part}.{name}" if name else part))
            for part, whole in self.parts.items()
            for name, module in whole.named_modules()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            found = next(_floating(output), None)
            if found is None:
                return
            call = self._calls[name] = self._calls.get(name, -1) + 1
            sample = _sample(found)
            if self.reference is None:
                self.outputs[name, call] = sample
            elif (name, call) in self.reference.outputs:
                self.errors[name, "output", call] = _error(sample, self.reference.outputs[name, call])

        return note

    def finish(self, loss: Tensor) -> None:
        """Take note of loss and gradients, and free them."""
        self.loss = float(loss.detach())
        for name, module in self.parts.items():
            gradients = [parameter.grad for parameter in module.parameters()]
            local = [own_part(gradient) for gradient in gradients if gradient is not None]
            if self.reference is None:
                self.gradients[name] = local
            elif local and len(local) == len(self.reference.gradients[name]):
                squares = [
                    ((given.float() - wanted).square().sum(), wanted.square().sum())
                    for given, wanted in zip(local, self.reference.gradients[name], strict=True)
                ]
                off, size = (float(torch.stack(sums).double().sum()) for sums in zip(*squares, strict=True))
                self.errors[name, "gradient", 0] = math.sqrt(off / size) if size else 0.0
        self.forget_gradients()
        if self.reference is not None:
            wanted_loss = self.reference.loss
            self.errors["loss", "loss", 0] = abs(self.loss - wanted_loss) / max(abs(wanted_loss), 1e-12)

    def forget_gradients(self) -> None:
        for module in self.parts.values():
            module.zero_grad(set_to_none=True)

    def deviations(self, rounded: _Pass) -> list[Deviation]:
        """Return everything that was compared, in the order of computation, the worst call of each."""
        found: dict[tuple[str, str], Deviation] = {}
        for (name, of, call), error in self.errors.items():
            rounding = rounded.errors.get((name, of, call), 0.0)
            row = Deviation(name, of, error, rounding)  # type: ignore[arg-type]
            found[name, of] = row.worse_of(found.get((name, of)))
        return list(found.values())


def _agreed(own: Iterable[Deviation], processes: Processes) -> PrecisionProof:
    """Return the proof of all processes: of each number the worst."""
    worst: dict[tuple[str, str], Deviation] = {}
    for rows in processes.gather(list(own)):
        for row in rows:
            worst[row.what, row.of] = row.worse_of(worst.get((row.what, row.of)))
    return PrecisionProof(
        rows=tuple(row for row in worst.values() if "." not in row.what),
        inner=tuple(row for row in worst.values() if "." in row.what),
    )


@contextmanager
def _no_dropout(parts: Iterable[nn.Module]) -> Iterator[None]:
    """Let dropout pass everything: in another dtype it might drop something else."""
    rates: list[tuple[nn.Module, str, Any]] = []
    for module in (module for part in parts for module in part.modules()):
        name = "dropout" if isinstance(module, nn.MultiheadAttention) else "p"
        if isinstance(module, nn.MultiheadAttention | nn.modules.dropout._DropoutNd):
            rates.append((module, name, getattr(module, name)))
            setattr(module, name, 0.0)
    try:
        with _NoFunctionalDropout():
            yield
    finally:
        for module, name, rate in rates:
            setattr(module, name, rate)


class _NoFunctionalDropout(TorchFunctionMode):
    """The same for calls of functions, other than from inside of functions."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (F.dropout, torch.dropout, F.alpha_dropout, F.feature_alpha_dropout):
            return args[0] if args else kwargs["input"]
        if func is F.scaled_dot_product_attention:
            names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
            kwargs |= dict(zip(names, args, strict=False)) | {"dropout_p": 0.0}
            args = ()
        return func(*args, **kwargs)


class _RoundedProducts(TorchDispatchMode):
    """Products read and give fp32 numbers that bf16 can hold: what its rounding does, by fp32 kernels."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name.startswith(ATTENTION) and not name.endswith("backward"):
            # The logarithm of the sum that the backward pass reads stays in fp32 under autocast, too.
            output, *others = func(*_round(args), **(kwargs or {}))
            return (_round(output), *others)
        if name not in ROUNDED and not name.startswith(ATTENTION):
            return func(*args, **(kwargs or {}))
        return _round(func(*_round(args), **(kwargs or {})))


def _round(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.bfloat16().float() if value.dtype == torch.float32 else value
    if isinstance(value, tuple | list):
        return type(value)(_round(item) for item in value)
    return value


@contextmanager
def _unchanged(parts: Iterable[nn.Module]) -> Iterator[None]:
    """Put buffers back as they were, also those that are replaced: codebooks and norms learn on the way."""
    saved = [
        (module, name, buffer, buffer.clone())
        for part in parts
        for module in part.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, value in saved:
                module._buffers[name] = buffer.copy_(value)


def _floating(output: Any) -> Iterator[Tensor]:
    """Yield the floating-point tensors in whatever a module returns."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _floating(value)
    elif isinstance(output, tuple | list):
        for value in output:
            yield from _floating(value)
    elif hasattr(output, "__dataclass_fields__"):
        for name in output.__dataclass_fields__:
            yield from _floating(getattr(output, name))


def _sample(output: Tensor) -> Tensor:
    flat = output.detach().reshape(-1)
    # An odd stride passes through all channels, which are mostly a power of two.
    return flat[:: flat.numel() // SAMPLE | 1].float().clone()


def _error(given: Tensor, wanted: Tensor) -> float:
    """Return the distance relative to the norm of what is wanted, over what is finite there."""
    if given.shape != wanted.shape:
        return math.nan
    known = wanted.isfinite()
    return float((given - wanted)[known].norm() / wanted[known].norm().clamp(min=1e-12))
