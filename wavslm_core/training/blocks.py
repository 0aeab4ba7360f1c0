"""A model's repeated blocks: which of them FSDP may gather one by one, and which may be computed twice.

FSDP gathers a block's weights when its forward pass begins. A part may also read a layer's weights in other
ways, to fuse or to stream for instance; then they would not be there. Activation checkpointing computes a
block again in the backward pass; one that moves a buffer each time would move it twice. So a batch is passed
through the model once, watching who does what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint


def repeated_blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost members of module lists that have weights and children: a model's layers.

    Members without children, such as a head's output per place, are too small to gain anything; lists in
    lists have no forward pass.
    """
    for child in module.children():
        runs = any(True for _ in child.children()) and not isinstance(child, nn.ModuleList | nn.ModuleDict)
        if isinstance(module, nn.ModuleList) and runs and any(True for _ in child.parameters()):
            yield child
        else:
            yield from repeated_blocks(child)


def read_outside(module: nn.Module, blocks: Sequence[nn.Module], call: Callable[[], object]) -> set[int]:
    """Return which blocks' weights `call` reads while the block's forward pass does not run; by number.

    Buffers of `module`, which holds the blocks, that `call` changes are put back, and torch's generators.
    """
    watch = _Watch(blocks)
    with _leaving_no_trace(module), watch:
        try:
            call()
        finally:
            watch.remove()
    return watch.outside


def steady(module: nn.Module, blocks: Sequence[nn.Module], call: Callable[[], object]) -> list[nn.Module]:
    """Return the blocks whose buffers `call` leaves alone: those that may run twice.

    Buffers of `module`, which holds the blocks, are put back, and torch's generators.
    """
    with _leaving_no_trace(module):
        before = [_buffer_versions(block) for block in blocks]
        call()
        return [block for block, was in zip(blocks, before, strict=True) if _buffer_versions(block) == was]


@contextmanager
def recomputed(blocks: Iterable[nn.Module]) -> Iterator[None]:
    """Let what these blocks compute inside be forgotten, and computed again in the backward pass.

    Only what goes into a block is kept. Random draws come out the same again, so gradients have the same
    bits.
    """
    with ExitStack() as stack:
        # A block may stand in two places.
        for block in dict.fromkeys(blocks):
            own = block.__dict__.get("forward")
            # Over the class' own; nothing that copies or saves the block meanwhile would want it.
            block.__dict__["forward"] = partial(checkpoint, block.forward, use_reentrant=False)
            if own is None:
                stack.callback(block.__dict__.pop, "forward")
            else:
                stack.callback(block.__dict__.update, forward=own)
        yield


def _buffer_versions(block: nn.Module) -> list[tuple[int, int]]:
    """Return what changes whenever a buffer is written into, or is another one."""
    return [(id(buffer), buffer._version) for buffer in block.buffers()]


@contextmanager
def _leaving_no_trace(module: nn.Module) -> Iterator[None]:
    """Put back buffers and torch's generators; nothing is differentiated."""
    kept = [
        (holder, name, buffer, buffer.clone())
        for holder in module.modules()
        for name, buffer in holder.named_buffers(recurse=False)
    ]
    buffers = [buffer for _, _, buffer, _ in kept]
    devices = {buffer.device for buffer in (*module.parameters(), *buffers) if buffer.is_cuda}
    try:
        with torch.random.fork_rng(devices), torch.no_grad():
            yield
    finally:
        with torch.no_grad():
            for holder, name, buffer, value in kept:
                # Another one may stand in its place by now.
                setattr(holder, name, buffer.copy_(value))


class _Watch(TorchFunctionMode):
    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.outside: set[int] = set()
        self._owners = {id(p): number for number, block in enumerate(blocks) for p in block.parameters()}
        self._running = [0] * len(blocks)
        self._hooks = [
            hook
            for number, block in enumerate(blocks)
            for hook in (
                block.register_forward_pre_hook(self._counter(number, 1)),
                block.register_forward_hook(self._counter(number, -1), always_call=True),
            )
        ]

    def _counter(self, number: int, change: int) -> Callable[..., None]:
        def count(*_: object) -> None:
            self._running[number] += change

        return count

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # Asking for a shape or a device reads no weights.
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            owners = (self._owners.get(id(leaf)) for leaf in tree_leaves((args, kwargs)))
            self.outside |= {owner for owner in owners if owner is not None and not self._running[owner]}
        return result
