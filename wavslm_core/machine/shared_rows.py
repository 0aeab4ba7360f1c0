"""For parts that look at a batch as a whole: what the processes that train one model see, together.

A codebook of moving averages has no gradient that would be averaged for it. If it learns from `all_rows`
instead of its own, it stays the same in every process, and the same that one process would have learnt. The
entropy of how often codes are used is not the mean of each process's: it is that of `mean_of_all`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_reduce


def all_rows(rows_NK: Tensor) -> Tensor:
    """Return the rows (N,…) of every process, rank by rank, as one (M,…); its own when it is alone.

    All processes must call it, each with as many rows as it has; nothing is differentiated.
    """
    if not _several():
        return rows_NK
    counts_W = rows_NK.new_zeros(dist.get_world_size(), dtype=torch.int64)
    counts_W[dist.get_rank()] = len(rows_NK)
    dist.all_reduce(counts_W)
    counts = counts_W.tolist()
    padded_NK = rows_NK.new_zeros(max(counts), *rows_NK.shape[1:])
    padded_NK[: len(rows_NK)] = rows_NK.detach()
    parts = [torch.empty_like(padded_NK) for _ in counts]
    dist.all_gather(parts, padded_NK)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def mean_of_all(mean: Tensor, *, count: int) -> Tensor:
    """Return the mean over the rows of every process, given that over this one's `count`; differentiable.

    All processes must call it in training, and none of them elsewhere: without gradients it returns `mean`.
    """
    if not _several() or not torch.is_grad_enabled():
        return mean
    total = torch.tensor(float(count), device=mean.device)
    dist.all_reduce(total)
    # Backwards, gradients are summed too: each process asks for its part of the same number.
    summed: Tensor = all_reduce(mean * count)
    return summed / total


@contextmanager
def same_random_numbers(device: torch.device) -> Iterator[None]:
    """Let torch's global generators of all processes draw alike inside the block, and go on as before."""
    if not _several():
        yield
        return
    seed = torch.randint(2**62, (1,)).to(device)
    dist.broadcast(seed, src=0)
    with torch.random.fork_rng([device] if device.type == "cuda" else [], device_type=device.type):
        torch.manual_seed(int(seed))
        yield


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
