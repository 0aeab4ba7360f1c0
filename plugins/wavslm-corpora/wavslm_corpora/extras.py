"""Optional packages: imported when they are needed, with one clear line where they are missing."""

from importlib import import_module
from typing import Any

from wavslm_core.plugin import PluginError


def optional(module: str, *, extra: str, corpus: str) -> Any:
    """Import a module of an extra. Raises: PluginError saying how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise PluginError(
            f"corpus '{corpus}' needs the package {module.partition('.')[0]} ({error}): "
            f"pip install 'wavslm-corpora[{extra}]'"
        ) from error
