"""A model's repeated blocks, as FSDP wants to know them: what runs through its forward pass and nothing else.

FSDP gathers a block's weights when its forward pass begins. A part may also read a layer's weights in other
ways, to fuse or to stream for instance; then they would not be there. So a batch is passed through the model
once, watching who reads what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


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
    buffers = list(module.buffers())
    kept = [buffer.clone() for buffer in buffers]
    devices = {buffer.device for buffer in (*module.parameters(), *buffers) if buffer.is_cuda}
    watch = _Watch(blocks)
    try:
        with torch.random.fork_rng(devices), torch.no_grad(), watch:
            call()
    finally:
        watch.remove()
        with torch.no_grad():
            for buffer, value in zip(buffers, kept, strict=True):
                buffer.copy_(value)
    return watch.outside


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
