"""(role, name) → config class and a factory that imports the implementation when it is first built."""

from __future__ import annotations

import errno
import importlib
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from wavslm_core.errors import PluginError, WavslmError, did_you_mean, nearest, summary
from wavslm_core.parts.checkpoints import Checkpoint, Kind
from wavslm_core.parts.commands import PluginCommand
from wavslm_core.parts.configs import Config, Role
from wavslm_core.parts.engines import Engine
from wavslm_core.parts.roles import ROLES

MEND = "update, reinstall or uninstall it"
"""What to do about a plugin that fails."""


@dataclass(frozen=True)
class Entry:
    """One registered implementation and where it came from."""

    role: Role
    name: str
    config_class: type[Config]
    target: str
    """`package.module:Class`, imported at build time."""
    distribution: str
    version: str
    plugin: str = ""
    """Name of the entry point that registered it."""

    @property
    def called(self) -> str:
        """What it is, for messages."""
        return f"{self.role} '{self.name}'"

    @property
    def described(self) -> str:
        """What it is and whose, for messages."""
        return f"{self.called} of {self.distribution} {self.version}"

    def load(self) -> type:
        """Import and return the implementation class.

        Raises: PluginError naming the distribution when the import fails, or gives something else than a
        class with the interface of its role.
        """
        try:
            found = imported(self.target)
        # An implementation that calls sys.exit() on import must not end the program without a word.
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{self.described} cannot be imported from {self.target}: {summary(error)}. "
                f"Install {self.distribution} again from where it came, or mend what it imports"
            ) from error
        if not (isinstance(found, type) and issubclass(found, imported(ROLES[self.role].interface))):
            interface = ROLES[self.role].interface.replace(":", ".")
            raise PluginError(
                f"{self.described} cannot be used: {self.target} is no subclass of {interface}. "
                f"Report it to the authors of {self.distribution}, or name another {self.role}"
            )
        return found

    def build(self, config: Config, **context: Any) -> Any:
        """Return `Class(config, **context)`.

        Raises: PluginError naming the distribution; the implementation's own WavslmErrors as they are.
        """
        implementation = self.load()
        try:
            return implementation(config, **context)
        except (WavslmError, MemoryError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise PluginError(
                f"{self.described} cannot be built: {summary(error)}. Change its options, or report it to "
                f"the authors of {self.distribution}; --traceback shows where"
            ) from error


Registered = Entry | Checkpoint | PluginCommand | Engine
"""What a plugin brings under a name."""


@dataclass(frozen=True)
class Clash:
    """Two things that have one name."""

    first: Registered
    second: Registered

    @property
    def error(self) -> PluginError:
        first, second = self.first, self.second
        return PluginError(
            f"{first.called} is registered twice: by {first.distribution} ({first.target}) and by "
            f"{second.distribution} ({second.target}). Uninstall one of them or restrict plugins with "
            "WAVSLM_PLUGINS."
        )


def clashes(brought: Iterable[Registered]) -> Iterator[Clash]:
    """Yield whatever has the name of something else before it; the same twice is one."""
    names: dict[str, Registered] = {}
    for one in brought:
        first = names.setdefault(one.called, one)
        classes = [getattr(each, "config_class", None) for each in (first, one)]
        if first.target != one.target or classes[0] is not classes[1]:
            yield Clash(first, one)


def imported(target: str) -> Any:
    """Return what `package.module:Name` names."""
    module_name, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module_name), attribute)


class Registry:
    """All registered implementations. Filled by `wavslm_core.parts.plugins.load_registry()`."""

    def __init__(self) -> None:
        self._entries: dict[tuple[Role, str], Entry] = {}
        self._checkpoints: dict[tuple[str, Kind], Checkpoint] = {}
        self._commands: dict[str, PluginCommand] = {}
        self._engines: dict[str, Engine] = {}
        self.load_errors: dict[str, BaseException] = {}
        """Distribution → exception, for the plugins that failed to load."""

    def add(self, *brought: Registered) -> None:
        """Register all or none. Raises: PluginError when a name is taken by another one."""
        known: list[Registered] = [*self, *self.checkpoints(), *self.commands(), *self.engines()]
        for clash in clashes([*known, *brought]):
            raise clash.error
        for one in brought:
            if isinstance(one, Entry):
                self._entries[one.role, one.name] = one
            elif isinstance(one, Checkpoint):
                self._checkpoints[one.name, one.kind] = one
            elif isinstance(one, PluginCommand):
                self._commands[one.name] = one
            else:
                self._engines[one.name] = one

    def __iter__(self) -> Iterator[Entry]:
        """Iterate over entries by role, then name."""
        order = {role: index for index, role in enumerate(ROLES)}
        return iter(sorted(self._entries.values(), key=lambda entry: (order[entry.role], entry.name)))

    def checkpoints(self, kind: Kind | None = None) -> list[Checkpoint]:
        """Return the trained models that plugins bring along, those of one kind or all, by name."""
        held = [checkpoint for _, checkpoint in sorted(self._checkpoints.items())]
        return [checkpoint for checkpoint in held if kind in (None, checkpoint.kind)]

    def checkpoint(self, name: str, kind: Kind) -> Checkpoint | None:
        """Return the trained model that has a name, if any has."""
        return self._checkpoints.get((name, kind))

    def commands(self) -> list[PluginCommand]:
        """Return the verbs that plugins bring along, by name."""
        return [command for _, command in sorted(self._commands.items())]

    def engines(self) -> list[Engine]:
        """Return the engines that plugins bring along, by name."""
        return [engine for _, engine in sorted(self._engines.items())]

    def names(self, role: Role) -> list[str]:
        return [entry.name for entry in self if entry.role == role]

    def config_classes(self, role: Role) -> list[type[Config]]:
        return [entry.config_class for entry in self if entry.role == role]

    def entry(self, role: Role, name: str) -> Entry:
        """Return the entry of that role and name. Raises: PluginError saying what is installed."""
        try:
            return self._entries[role, name]
        except KeyError:
            raise PluginError(self.unknown(role, name)) from None

    def unknown(self, role: Role, name: str) -> str:
        """Return the message for a name that is not registered: what is, what is near, what to do."""
        names = self.names(role)
        providers = known_providers(role)
        message = f"no {role} is called '{name}'."
        if name not in providers:
            message += did_you_mean(name, {*names, *providers})
        message += f" Installed: {', '.join(names)}." if names else f" No {role} is installed."
        near = name if name in providers else nearest(name, {*names, *providers})
        provider = None if near in names else providers.get(near or "")
        if provider is not None and provider not in self.load_errors:
            message += f" '{near}' comes with {provider}{how_to_install(provider)}"
        for distribution, error in sorted(self.load_errors.items()):
            source = (
                f"'{near}' comes with {provider}, which"
                if distribution == provider
                else f"Plugin {distribution}"
            )
            message += f" ({source} {_failed(error)})"
        return message

    def not_installed(self, role: Role) -> str:
        """Return, with a space in front, which known names of a role are not installed and what has them."""
        lacking = [
            f" '{name}' comes with {provider}{how_to_install(provider)}."
            for name, provider in known_providers(role).items()
            if name not in self.names(role)
        ]
        return "".join(lacking)

    def failures(self) -> str:
        """Return a remark in parentheses for every plugin that failed to load, with a space before each."""
        return "".join(
            f" (Plugin {name} {_failed(error)})" for name, error in sorted(self.load_errors.items())
        )

    def described(self, config: Config) -> str:
        """Return what a config stands for and whose it is, for messages."""
        entry = self._entries.get((config.role, config.registered_name()))
        return f"{config.role} '{config.registered_name()}'" if entry is None else entry.described

    def build(self, config: Config, **context: Any) -> Any:
        """Import the implementation of `config` and build it as `Class(config, **context)`.

        Raises: PluginError naming its distribution; the implementation's own WavslmErrors as they are.
        """
        return self.entry(config.role, str(getattr(config, config.tag))).build(config, **context)


def known_providers(role: Role) -> dict[str, str]:
    """Return name → distribution of what the plugins of this repository register for a role.

    Also for "checkpoint", "command" and "engine", which are none.
    """
    text = files("wavslm_core.parts").joinpath("known_plugins.toml").read_text(encoding="utf-8")
    provided = tomllib.loads(text)
    return {name: provider for provider, roles in provided.items() for name in roles.get(role, ())}


def how_to_install(provider: str) -> str:
    """Return how one of the reference plugins is installed, to go after its name."""
    return f", in a clone of wavslm: pip install ./plugins/{provider}"


def _failed(error: BaseException) -> str:
    text = summary(error)
    return f"failed to load: {text}" if isinstance(error, PluginError) else f"failed to load: {text}; {MEND}"
