"""Engines: what runs the steps of parts faster than torch does, operator by operator.

A plugin registers each under its name, beside the parts that it may register too:

    from wavslm_core.plugin import hookimpl

    @hookimpl
    def register_engines(register):
        register("onnxruntime", "wavslm_onnx.engine:compiled", weights=("fp32", "int8"), about="ONNX graphs.")

The string is imported when the engine is used. It names a function `compiled(step, x, state, *, weights)`:
`step` is an exportable module (`forward(x, *state) -> (y, *next_state)`), `x` and `state` what a step of a
batch is given; it returns what maps such `x` and state to y and the next state, as a step of a part does. The
state that it is given is never the one before the first step. One registered with `whole_chunks=True` is
asked for the whole step of a language model, too (`wavslm_core.model.chunk_step`): x is uniform random
numbers then, and y is tokens. Where that cannot be made, head and sampler stay with torch.

Batches have one row, unless the engine is registered with `any_rows=True`: it is called for each number of
rows that a user asks for (`for_inference(rows=…)`), all of which are at one place of their streams. One with
`device="cuda"` is given a step, `x` and state on a GPU, except positions (`wavslm_core.parts.streaming`),
which lie on the CPU, in what it is given and in what it gives.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from wavslm_core.errors import PluginError
from wavslm_core.parts.commands import load_function

HOOK = "register_engines"
TORCH = "torch"
"""The engine that is always there: torch itself."""
DEVICES = ("cpu", "cuda")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TARGET = re.compile(r"[^:]+:\w+")


class RegisterEngine(Protocol):
    """What the hook is given."""

    def __call__(
        self,
        name: str,
        target: str,
        *,
        weights: tuple[str, ...],
        about: str,
        whole_chunks: bool = False,
        device: str = "cpu",
        any_rows: bool = False,
    ) -> None:
        """Register the function `package.module:function`; `weights` are the kinds that it can do.

        `whole_chunks`: whether it gains by making one step of all that a language model does for a chunk.
        `device`: the type of device that it is for. `any_rows`: whether it makes steps of several rows, too.
        """


@dataclass(frozen=True)
class Engine:
    """An engine, and who brought it."""

    name: str
    target: str
    weights: tuple[str, ...]
    about: str
    distribution: str
    version: str
    plugin: str
    """Name of the entry point that registered it."""
    whole_chunks: bool = False
    """Whether it makes a language model's whole step for a chunk, too."""
    device: str = "cpu"
    """Type of the device that the model must be on."""
    any_rows: bool = False
    """Whether it makes steps of several rows, too."""

    @property
    def called(self) -> str:
        """What it is, for messages."""
        return f"the engine '{self.name}'"

    def check(self) -> None:
        """Raises: PluginError saying what is wrong with what was registered."""
        given = f"{self.distribution} called register({self.name!r}, {self.target!r}, …) in {HOOK}"
        if not _NAME.fullmatch(self.name) or self.name in (TORCH, "auto"):
            raise PluginError(
                f"{given}: an engine's name is made of small letters, digits and underscores, and is neither "
                f"{TORCH} nor auto"
            )
        if not _TARGET.fullmatch(self.target):
            raise PluginError(f"{given}: the second argument must read 'package.module:function'")
        if not self.weights or not {*self.weights} <= {"fp32", "bf16", "int8"}:
            raise PluginError(f"{given}: `weights` must be some of fp32, bf16 and int8")
        if self.device not in DEVICES:
            raise PluginError(f"{given}: `device` must be {' or '.join(DEVICES)}, got {self.device!r}")
        if not self.about.strip():
            raise PluginError(f"{given}: `about` must say what it is")

    def load(self) -> Callable[..., Any]:
        """Import the function. Raises: PluginError naming the distribution when that fails."""
        named = f"the engine {self.name} of {self.distribution} {self.version}"
        return load_function(self.target, named=named, distribution=self.distribution)
