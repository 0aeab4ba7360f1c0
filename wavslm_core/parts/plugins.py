"""Finds and loads plugins from the entry-point group `wavslm`; one broken plugin never takes the rest down.

`WAVSLM_PLUGINS=a,b` restricts loading to the named entry points (core's own always load);
`WAVSLM_STRICT_PLUGINS=1` re-raises the first failure instead of keeping it for the message.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy
from pydantic import PydanticUserError

from wavslm_core.errors import PluginError, did_you_mean
from wavslm_core.parts.checkpoints import HOOK as CHECKPOINTS, Checkpoint, RegisterCheckpoint
from wavslm_core.parts.commands import HOOK as COMMANDS, PluginCommand, RegisterCommand
from wavslm_core.parts.configs import Config, Role
from wavslm_core.parts.engines import HOOK as ENGINES, Engine, RegisterEngine
from wavslm_core.parts.registry import Entry, Registered, Registry, clashes
from wavslm_core.parts.roles import ROLES

GROUP = "wavslm"
CORE_ENTRY_POINT = "core"

hookimpl = pluggy.HookimplMarker("wavslm")


@dataclass(frozen=True)
class Plugin:
    """One entry point in the group `wavslm` and what became of it."""

    name: str
    value: str
    distribution: str
    version: str
    error: BaseException | None = None


@dataclass(frozen=True)
class Loaded:
    """The result of loading every plugin once."""

    registry: Registry
    plugins: tuple[Plugin, ...]


@cache
def load() -> Loaded:
    """Load every installed plugin once per process."""
    return load_from(entry_points(group=GROUP))


def load_registry() -> Registry:
    """Return the registry of everything installed."""
    return load().registry


def load_from(points: Iterable[EntryPoint]) -> Loaded:
    """Load plugins from these entry points, each isolated from the others.

    Of two that bring one name, neither is loaded: nobody could tell which one a recipe means. What is core's
    stays core's. Raises: PluginError when one entry-point name has two values, or, with
    `WAVSLM_STRICT_PLUGINS=1`, whatever the first broken plugin raised.
    """
    strict = os.environ.get("WAVSLM_STRICT_PLUGINS") == "1"
    brought: dict[Plugin, list[Registered]] = {}
    errors: dict[str, BaseException] = {}
    for point in _unique(points):
        plugin = Plugin(point.name, point.value, *_origin(point))
        brought[plugin] = []
        try:
            brought[plugin] = _brought(point.load(), plugin)
        # A plugin that calls sys.exit() on import must not take the rest down either.
        except (Exception, SystemExit) as error:
            if strict:
                raise
            errors[plugin.name] = error
    for clash in clashes(one for things in brought.values() for one in things):
        if strict:
            raise clash.error
        for one in (clash.first, clash.second):
            if one.plugin != CORE_ENTRY_POINT:
                errors.setdefault(one.plugin, clash.error)
    registry = Registry()
    for plugin, things in brought.items():
        found = errors.get(plugin.name)
        if found is None:
            registry.add(*things)
            continue
        second = plugin.distribution in registry.load_errors
        name = f"{plugin.distribution} ({plugin.name})" if second else plugin.distribution
        registry.load_errors[name] = found
    return Loaded(registry, tuple(replace(plugin, error=errors.get(plugin.name)) for plugin in brought))


def _unique(points: Iterable[EntryPoint]) -> list[EntryPoint]:
    """Sort by name, core first, restrict to WAVSLM_PLUGINS, drop repeats, refuse one name with two values."""
    found = sorted(points, key=lambda point: (point.name != CORE_ENTRY_POINT, point.name, point.value))
    names = _wanted({point.name for point in found})
    unique: dict[str, EntryPoint] = {}
    for point in found:
        if names is not None and point.name not in names:
            continue
        seen = unique.setdefault(point.name, point)
        if seen.value != point.value:
            raise PluginError(
                f"the plugin name '{point.name}' is claimed by {_origin(seen)[0]} ({seen.value}) "
                f"and by {_origin(point)[0]} ({point.value}). Uninstall one of them."
            )
    return list(unique.values())


def _wanted(installed: set[str]) -> set[str] | None:
    """Return the names in WAVSLM_PLUGINS and core's own, or None when everything is wanted."""
    value = os.environ.get("WAVSLM_PLUGINS")
    if value is None:
        return None
    names = {name.strip() for name in value.split(",") if name.strip()}
    for name in sorted(names - installed):
        raise PluginError(
            f"WAVSLM_PLUGINS asks for the plugin '{name}', which is not installed."
            f"{did_you_mean(name, installed)} Installed: {', '.join(sorted(installed))}."
        )
    return names | {CORE_ENTRY_POINT}


def _origin(point: EntryPoint) -> tuple[str, str]:
    """Return distribution name and version of an entry point."""
    unknown = point.value.partition(":")[0], "unknown"
    if point.dist is None:
        return unknown
    # What a broken uninstallation leaves behind may have entry points and no metadata.
    return point.dist.name or unknown[0], point.dist.version or unknown[1]


def _brought(module: Any, plugin: Plugin) -> list[Registered]:
    """Check one plugin's hooks and return what it registers."""
    manager = pluggy.PluginManager("wavslm")
    manager.add_hookspecs(_hookspecs())
    try:
        manager.register(module, name=plugin.name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(_wrong_hook(plugin, " ".join(str(error).split()))) from error
    for caller in manager.get_hookcallers(module) or []:
        # pluggy lets a hook leave arguments out, but then it can register nothing, and nobody would notice.
        if any("register" not in implementation.argnames for implementation in caller.get_hookimpls()):
            raise PluginError(_wrong_hook(plugin, f"{caller.name}() takes no `register`"))
    if not manager.get_hookcallers(module):
        raise PluginError(
            f"plugin '{plugin.name}' of {plugin.distribution} implements no hook. Define one of "
            f"{_hook_names()} in {plugin.value} and mark it with @hookimpl."
        )
    brought: list[Registered] = []
    for role, spec in ROLES.items():
        getattr(manager.hook, spec.hook)(register=partial(_collect, brought, role, plugin))
    for hook, collector in _COLLECTORS.items():
        getattr(manager.hook, hook)(register=collector(brought, plugin))
    return brought


@cache
def _hookspecs() -> type:
    """Return what pluggy reads: a specified hook for each role, for checkpoints, commands and engines.

    All take the one argument `register`.
    """
    marker = pluggy.HookspecMarker("wavslm")

    def specified() -> Callable[[Any], None]:
        # Each hook needs a function of its own, since pluggy marks the function.
        return marker(lambda register: None)

    return type("Hooks", (), {hook: specified() for hook in _hooks()})


def _hooks() -> list[str]:
    return [*(spec.hook for spec in ROLES.values()), *_COLLECTORS]


def _hook_names() -> str:
    return ", ".join(_hooks())


def _wrong_hook(plugin: Plugin, problem: str) -> str:
    return (
        f"plugin '{plugin.name}' of {plugin.distribution} has a wrong hook: {problem}. "
        f"The hooks are: {_hook_names()}, each with the one argument `register`. "
        f"A new role is a change to wavslm itself, which CONTRIBUTING describes. Report this to the plugin's "
        f"authors, or uninstall it"
    )


def _collect(
    brought: list[Registered], role: Role, plugin: Plugin, config_class: type[Config], target: str
) -> None:
    """The `register` callable that plugins are given."""
    given = f"{plugin.distribution} called register({config_class!r}, {target!r}) in {ROLES[role].hook}"
    if not (isinstance(config_class, type) and issubclass(config_class, Config)):
        raise PluginError(
            f"{given}: the first argument must be a subclass of wavslm_core.parts.configs.Config"
        )
    given_role = getattr(config_class, "role", None)
    if given_role != role:
        raise PluginError(f"{given}: that config is a {given_role}, not a {role}")
    if inspect.isabstract(config_class):
        lacking = ", ".join(sorted(config_class.__abstractmethods__))
        raise PluginError(f"{given}: that config must define {lacking}")
    module_name, separator, attribute = target.partition(":")
    if not (separator and module_name and attribute):
        raise PluginError(f"{given}: the second argument must read 'package.module:Class'")
    try:
        if not config_class.__pydantic_fields_complete__:
            # Says which annotation does not resolve; it would else show only when a recipe is read.
            config_class.model_rebuild()
        name = config_class.registered_name()
    except (TypeError, NameError, PydanticUserError) as error:
        raise PluginError(f"{given}: {error}") from None
    brought.append(Entry(role, name, config_class, target, plugin.distribution, plugin.version, plugin.name))


def _checkpoint_collector(brought: list[Registered], plugin: Plugin) -> RegisterCheckpoint:
    """Return the `register` callable that the hook of checkpoints is given."""

    def register(name: str, **about: Any) -> None:
        checkpoint = Checkpoint(
            name,
            **about,
            distribution=plugin.distribution,
            version=plugin.version,
            plugin=plugin.name,
        )
        checkpoint.check()
        brought.append(checkpoint)

    return register


def _command_collector(brought: list[Registered], plugin: Plugin) -> RegisterCommand:
    """Return the `register` callable that the hook of commands is given."""

    def register(name: str, target: str, *, about: str) -> None:
        command = PluginCommand(name, target, about, plugin.distribution, plugin.version, plugin.name)
        command.check()
        brought.append(command)

    return register


def _engine_collector(brought: list[Registered], plugin: Plugin) -> RegisterEngine:
    """Return the `register` callable that the hook of engines is given."""

    def register(name: str, target: str, *, weights: tuple[str, ...], about: str, **options: Any) -> None:
        by = plugin.distribution, plugin.version, plugin.name
        engine = Engine(name, target, tuple(weights), about, *by, **options)
        engine.check()
        brought.append(engine)

    return register


_COLLECTORS: dict[str, Callable[[list[Registered], Plugin], Any]] = {
    CHECKPOINTS: _checkpoint_collector,
    COMMANDS: _command_collector,
    ENGINES: _engine_collector,
}
"""Hook that is no role's → what makes its `register`."""
