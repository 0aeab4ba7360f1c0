"""The `launch:` block of a recipe. It changes where and how a run happens, never what it computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from wavslm_core.parts.configs import Config

OWN_FIELDS = {
    "cpus-per-task": "cpus_per_task",
    "gpus-per-node": "gpus_per_node",
    "job-name": "the recipe's name",
    "mem": "memory_gb",
    "ntasks-per-node": "tasks_per_node",
    "time": "timeout_min",
} | {key: key for key in ("account", "array", "constraint", "exclude", "nodes", "partition", "qos")}
"""sbatch key → what sets it instead of `extra`."""
TAKEN = (
    "dependency",
    "error",
    "kill-on-invalid-dep",
    "no-requeue",
    "open-mode",
    "output",
    "requeue",
    "signal",
)
"""sbatch keys that surviving depends on."""
EARLY_S = 60
"""How much earlier than asked for SLURM may signal."""


class LaunchConfig(Config):
    """Options that every launcher has."""

    tag: ClassVar[str] = "on"
    launcher: ClassVar[str]
    """`package.module:Class` of what launches; imported when it is used."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """`auto` is the first CUDA GPU that PyTorch sees, else the CPU; Apple's GPU, `mps`, is untried."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """How several processes share a training: `ddp` keeps the whole model in each, `fsdp` a slice of it."""
    array: int | None = Field(default=None, gt=0)
    """Only in a stage's own `launch:` block: so many tasks share the stage, each its part of the work, and
    what follows puts the parts together. On this machine they run one after another."""

    @property
    def world_size(self) -> int:
        """Processes that share a stage."""
        return 1

    def overlaid(self, own: Mapping[str, Any] | None) -> Self:
        """Return this with a stage's own options over it; those of another launcher are left out."""
        if not own:
            return self
        known = type(self).model_fields.keys() - {"on"}
        values = {**self.model_dump(exclude_unset=True), "on": self.registered_name()}
        return type(self).model_validate(values | {key: own[key] for key in own if key in known})


class DebugLaunch(LaunchConfig):
    """In the process of the command, always: for breakpoints and profilers."""

    launcher: ClassVar[str] = "wavslm_core.launch.local:InProcessLauncher"

    on: Literal["debug"] = "debug"


class LocalLaunch(LaunchConfig):
    """On this machine."""

    launcher: ClassVar[str] = "wavslm_core.launch.local:LocalLauncher"

    on: Literal["local"] = "local"
    process: Literal["this", "child"] = "this"
    """`this`: in the process of the command, with live progress bars. `child`: as a job of submitit's local
    executor, the way a cluster would run it, with its log followed here; a crash of the job (out of memory,
    a fault in a native library) is then reported instead of taking the command down."""
    processes: int = Field(default=1, gt=0)
    """How many share the run, on a GPU each if there are any; more than one are always child processes."""

    @property
    def world_size(self) -> int:
        return self.processes


class SlurmLaunch(LaunchConfig):
    """As jobs of a SLURM cluster whose file system the run's folder is on."""

    launcher: ClassVar[str] = "wavslm_core.launch.slurm:SlurmLauncher"

    on: Literal["slurm"] = "slurm"
    partition: str | None = None
    """Where to queue; none: the cluster's default."""
    nodes: int = Field(default=1, gt=0)
    """Machines."""
    gpus_per_node: int = Field(default=0, ge=0)
    """GPUs of each."""
    tasks_per_node: int | None = Field(default=None, gt=0)
    """Processes on each; none: one for each GPU, or one."""
    cpus_per_task: int | None = Field(default=None, gt=0)
    """CPUs of each process; none: what the cluster gives."""
    memory_gb: float | None = Field(default=None, gt=0)
    """Memory of each node; none: what the cluster gives."""
    timeout_min: int = Field(default=24 * 60, gt=0)
    """Minutes until SLURM ends a job. It then saves, is queued again, and continues."""
    signal_delay_s: int = Field(default=120, gt=0)
    """Seconds before its end that a job is told to save. SLURM may be up to a minute early."""
    account: str | None = None
    """Who pays."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Features that nodes must have, such as `a100&nvlink`."""
    exclude: str | None = None
    """Nodes to leave out, such as `node[07-09]`."""
    setup: tuple[str, ...] = ()
    """Lines of shell before the job's command, such as `module load cuda`."""
    extra: Mapping[str, bool | int | float | str] = {}
    """Any other option of sbatch, without its dashes: `{reservation: mine, exclusive: true}`."""
    max_restarts: int = Field(default=3, ge=0)
    """Restarts in a row that may get no further than the run was before; any number that does is fine."""
    copy_code: bool = False
    """Copy the framework's and the plugins' source into the run's folder and run from there, so that edits
    do not reach a job that waits or is restarted."""

    @property
    def tasks(self) -> int:
        """Processes on each node."""
        return self.tasks_per_node or max(1, self.gpus_per_node)

    @property
    def world_size(self) -> int:
        return self.nodes * self.tasks

    @model_validator(mode="after")
    def _has_time_to_work(self) -> SlurmLaunch:
        needed = self.signal_delay_s + EARLY_S
        if self.timeout_min * 60 <= needed:
            raise ValueError(
                f"timeout_min is {self.timeout_min}, but a job is told to save signal_delay_s "
                f"({self.signal_delay_s} s) before its end and up to {EARLY_S} s earlier, so it would get "
                f"nowhere. Give it at least {needed // 60 + 1} minutes, or a shorter signal_delay_s."
            )
        return self

    @field_validator("extra")
    @classmethod
    def _leaves_the_rest_alone(
        cls, extra: Mapping[str, bool | int | float | str]
    ) -> Mapping[str, bool | int | float | str]:
        for key in extra:
            plain = key.lstrip("-").replace("_", "-")
            if plain in OWN_FIELDS:
                raise ValueError(f"'{key}' has a field of its own: {OWN_FIELDS[plain]}")
            if plain in TAKEN:
                raise ValueError(f"'{key}' is set by the launcher, which needs it to save and restart jobs")
        return extra


LAUNCH_CONFIGS: tuple[type[LaunchConfig], ...] = (DebugLaunch, LocalLaunch, SlurmLaunch)
"""Every launcher there is."""
