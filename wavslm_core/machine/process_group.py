"""Processes that share a run through torch.distributed.

Gradients go through the default group: NCCL between GPUs, gloo between CPUs. Flags and objects always go
through gloo, so that agreeing on something never waits for a GPU's queue. A key-value store in rank 0 keeps
what is not said to everybody at once. NCCL has been written for, but only gloo has been run by us.
"""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import _set_pg_timeout

from wavslm_core.errors import LostProcessError, WavslmError
from wavslm_core.machine.processes import Interrupted, Processes, Value

WORK_PATIENCE = timedelta(days=365)
"""Work of their own may keep processes apart for any time. One that died is noticed all the same, by its
closed connections; what hangs is for the job's time limit to end."""
POLL_S = 0.1
SHOWN_GPUS = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
"""Variables by which launchers choose the GPUs that a process sees."""
_STOP, _FAILED = "stop", "failed"


class ProcessGroup(Processes):
    """See `Processes`."""

    def __init__(
        self, rank: int, world_size: int, local_rank: int, *, device: str, patience_s: float
    ) -> None:
        self.rank, self.world_size, self.local_rank = rank, world_size, local_rank
        if device == "mps":
            raise WavslmError(
                "launch.device is mps, which several processes cannot share: set launch.processes to 1, or "
                "launch.device to cpu"
            )
        on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
        if on_gpu:
            torch.cuda.set_device(gpu_for(local_rank, gpus=torch.cuda.device_count()))
        # torchrun has a store of its own at this address; elsewhere rank 0 is its host.
        hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        patience = timedelta(seconds=patience_s)
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        try:
            store = TCPStore(address, port, world_size, is_master=rank == 0 and not hosted, timeout=patience)
            self._store = PrefixStore(f"wavslm/{attempt}", store)
            dist.init_process_group(
                "nccl" if on_gpu else "gloo",
                store=PrefixStore("groups", self._store),
                rank=rank,
                world_size=world_size,
                timeout=patience,
            )
            self.talk = dist.group.WORLD
            if on_gpu:
                self.talk = dist.new_group(backend="gloo", timeout=patience)
            self._workers = dist.new_group(backend="gloo", timeout=patience)
            # Not from the start: nobody waits that long for one that dies while all connect.
            _set_pg_timeout(WORK_PATIENCE, self._workers)
        except (RuntimeError, OSError) as error:
            raise LostProcessError(
                f"process {rank} of {world_size} does not reach the others at {address}:{port} "
                f"({_first_line(error)}). Is rank 0 running, and the port free?"
            ) from error
        self._flag = torch.zeros(1, dtype=torch.int32)
        self._told: set[str] = set()
        self._calls = 0
        """How often all processes have come together so far; the same number in each."""

    def any(self, flag: bool) -> bool:
        self._calls += 1
        with self.losing_nobody():
            self._flag.fill_(int(flag))
            dist.all_reduce(self._flag, dist.ReduceOp.MAX, group=self.talk)
            return bool(self._flag)

    def barrier(self) -> None:
        self.any(False)

    def gather(self, value: Value) -> list[Value]:
        return self._gather(value, self.talk)

    def gather_when_done(self, value: Value) -> list[Value]:
        return self._gather(value, self._workers)

    def _gather(self, value: Value, group: Any) -> list[Value]:
        self._calls += 1
        with self.losing_nobody():
            values: list[Any] = [None] * self.world_size
            dist.all_gather_object(values, value, group=group)
            return values

    def broadcast(self, value: Value) -> Value:
        self._calls += 1
        with self.losing_nobody():
            values: list[Any] = [value]
            dist.broadcast_object_list(values, src=0, group=self.talk)
            return cast(Value, values[0])

    def heard(self, flag: bool) -> bool:
        key = f"{_STOP}/{self._calls}"
        with self.losing_nobody():
            if flag:
                self._store.set(key, "1")
            return flag or self._store.check([key])

    @contextmanager
    def rank_0_first(self, what: str) -> Iterator[None]:
        key = f"first/{what}"
        with self.losing_nobody():
            # Asked again and again rather than waited for: a corpus may take hours to be read, but a rank 0
            # that died takes its store along, which shows at once.
            while self.rank > 0 and key not in self._told and not self._store.check([key]):
                time.sleep(POLL_S)
        yield
        if key not in self._told:
            self._told.add(key)
            if self.rank == 0:
                self._store.set(key, "1")

    @contextmanager
    def losing_nobody(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, dist.DistError) or "gloo" in str(error) or "NCCL" in str(error):
                raise self._lost(error) from error
            raise

    def _lost(self, error: Exception) -> LostProcessError:
        reason = "it said nothing: was it killed, or its machine lost?"
        with contextlib.suppress(RuntimeError):
            if self._store.check([_FAILED]):
                reason = self._store.get(_FAILED).decode()
        return LostProcessError(
            f"process {self.rank} of {self.world_size} lost another one ({reason}). Checkpoints are kept: "
            f"the same command continues from the last. [{_first_line(error)}]"
        )

    def leave(self, error: BaseException | None = None) -> None:
        """Leave the group; with an error, tell the others so that theirs name it."""
        if error is None or isinstance(error, Interrupted):
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()
            return
        if isinstance(error, LostProcessError):
            return
        with contextlib.suppress(RuntimeError):
            reason = f"process {self.rank} on {socket.gethostname()}: {type(error).__name__}: {error}"
            self._store.set(_FAILED, reason)
        if dist.get_backend() == "gloo":
            # Closes the connections, so that nobody waits; the store, in rank 0, outlives them for a moment.
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()
            if self.rank == 0:
                time.sleep(1.0)


def gpu_for(local_rank: int, *, gpus: int) -> int:
    """Return which of the GPUs that a process sees is its own. Raises: WavslmError when there are too few."""
    # Launchers may show each process its own GPU only, as number 0; NCCL refuses two processes on the same.
    if gpus == 1 and any(os.environ.get(name) for name in SHOWN_GPUS):
        return 0
    processes = max(local_rank + 1, int(os.environ.get("LOCAL_WORLD_SIZE") or 0))
    if processes > gpus:
        host = socket.gethostname()
        raise WavslmError(
            f"{processes} processes on {host} need a GPU each, and PyTorch sees {gpus} there. "
            "Start fewer of them, or set launch.device to cpu"
        )
    return local_rank


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
