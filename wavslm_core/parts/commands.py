"""Verbs of `wavslm` that distributions bring along, such as `wavslm serve`.

A plugin registers each under its name, beside the parts that it may register too:

    from wavslm_core.plugin import hookimpl

    @hookimpl
    def register_commands(register):
        register("serve", "wavslm_serve.command:serve", about="Let people talk with a language model.")

The string is imported when the verb is used. It names a function with typer's annotations, whose docstring is
the help text; what it imports at the top should be light, and free of torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from wavslm_core.errors import PluginError, summary

HOOK = "register_commands"
VERBS = (
    "compare", "data", "decode", "doctor", "encode", "evaluate", "generate", "jobs", "new-plugin", "plugins",
    "recipe", "score", "stop", "suites", "sweep",
)  # fmt: skip
"""Those of wavslm itself; see `cli`."""
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_TARGET = re.compile(r"[^:]+:\w+")


class RegisterCommand(Protocol):
    """What the hook is given."""

    def __call__(self, name: str, target: str, *, about: str) -> None:
        """Register the function `package.module:function`; `about` says in a line what it does."""


@dataclass(frozen=True)
class PluginCommand:
    """A verb, and who brought it."""

    name: str
    target: str
    about: str
    distribution: str
    version: str
    plugin: str
    """Name of the entry point that registered it."""

    @property
    def called(self) -> str:
        """What it is, for messages."""
        return f"the verb '{self.name}'"

    def check(self) -> None:
        """Raises: PluginError saying what is wrong with what was registered."""
        given = f"{self.distribution} called register({self.name!r}, {self.target!r}, …) in {HOOK}"
        if not _NAME.fullmatch(self.name):
            raise PluginError(f"{given}: a verb is made of small letters and digits, with dashes between")
        if self.name in VERBS:
            raise PluginError(f"{given}: that verb is wavslm's own; choose another name")
        if not _TARGET.fullmatch(self.target):
            raise PluginError(f"{given}: the second argument must read 'package.module:function'")
        if not self.about.strip():
            raise PluginError(f"{given}: `about` must say what it does")

    def load(self) -> Callable[..., Any]:
        """Import the function. Raises: PluginError naming the distribution when that fails."""
        named = f"wavslm {self.name} of {self.distribution} {self.version}"
        return load_function(self.target, named=named, distribution=self.distribution)


def load_function(target: str, *, named: str, distribution: str) -> Callable[..., Any]:
    """Import `package.module:function`. Raises: PluginError saying what it is, `named`, and what to do."""
    module, _, function = target.partition(":")
    try:
        found: Callable[..., Any] = getattr(import_module(module), function)
    # A module that calls sys.exit() on import must not end the program without a word.
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"{named} cannot be imported from {target}: {summary(error)}. "
            f"Install {distribution} again from where it came, or mend what it imports"
        ) from error
    return found
