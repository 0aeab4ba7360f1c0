"""Joins the processes that share a run, as the environment names them. Importing this imports no torch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from wavslm_core.errors import WavslmError
from wavslm_core.machine.processes import ALONE, Processes

VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK")
"""What tells a process who the others are; submitit and torchrun export them."""
PATIENCE_S = 600.0
"""How long processes wait for one that is alive but silent, as while rank 0 alone writes a report. One that
died is noticed at once, by its closed connections."""


@contextmanager
def join_processes(device: str = "auto", *, patience_s: float = PATIENCE_S) -> Iterator[Processes]:
    """Join the processes that the environment names; without `WORLD_SIZE`, or with 1, there is one alone.

    `device` is `launch.device`: processes on GPUs exchange gradients by NCCL, all else and all others by
    gloo. Only gloo has been run by us so far. Raises: WavslmError when a variable is missing or wrong.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield ALONE
        return
    missing = [name for name in VARIABLES if not os.environ.get(name)]
    numbers = [os.environ.get(name, "") for name in VARIABLES[1:]]
    if missing or not all(number.isdigit() for number in numbers):
        given = ", ".join(f"{name}={os.environ.get(name, '')}" for name in VARIABLES)
        raise WavslmError(
            f"WORLD_SIZE says that several processes share this run, but {given}: set each of them (all but "
            "the first are numbers), as submitit and torchrun do, or unset WORLD_SIZE"
        )
    from wavslm_core.machine.process_group import ProcessGroup

    _, rank, world_size, local_rank = map(int, numbers)
    if rank >= world_size:
        raise WavslmError(f"RANK is {rank}, but must be less than WORLD_SIZE, {world_size}")
    group = ProcessGroup(rank, world_size, local_rank, device=device, patience_s=patience_s)
    try:
        yield group
    except BaseException as error:
        group.leave(error)
        raise
    group.leave()
