"""The `launch:` block of a recipe. It changes where and how a run happens, never what it computes."""

from __future__ import annotations

from typing import ClassVar, Literal

from wavslm_core.configs import Config


class LaunchConfig(Config):
    """Options that every launcher has."""

    tag: ClassVar[str] = "on"

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """`auto` is the first GPU that PyTorch sees, else the CPU."""


class LocalLaunch(LaunchConfig):
    """On this machine."""

    on: Literal["local"] = "local"
    process: Literal["this", "child"] = "this"
    """`this`: in the process of the command, with live progress bars. `child`: as a job of submitit's local
    executor, the way a cluster would run it, with its log followed here; a crash of the job (out of memory,
    a fault in a native library) is then reported instead of taking the command down."""


class DebugLaunch(LaunchConfig):
    """In the process of the command, always: for breakpoints and profilers."""

    on: Literal["debug"] = "debug"


LAUNCH_CONFIGS: tuple[type[LaunchConfig], ...] = (DebugLaunch, LocalLaunch)
