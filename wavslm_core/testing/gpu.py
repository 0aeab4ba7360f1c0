"""A GPU for tests, on machines without one: its tensors have shapes, dtypes and a device, but no values.

    with gpu() as device:
        y = part.to(device)(x.to(device))
        assert y.device == device

Tensors on the CPU are real ones. An operator whose tensors are on two devices fails as it does on a GPU. What
is read from the GPU is zero, unless it is some whole numbers that were brought there or made of such, as
lengths are. In `recording()`, reading fails, and so does all else that a CUDA graph cannot hold. There are no
gradients. Where there is a GPU, it is used instead.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten

FEW = 64
"""Up to so many whole numbers, values on the GPU are known."""


class Unrecordable(RuntimeError):
    """What is done cannot be part of a CUDA graph."""


@contextmanager
def gpu() -> Iterator[torch.device]:
    """Context with a GPU, real or not; gives its device."""
    device = torch.device("cuda", 0)
    if torch.cuda.is_available():
        with torch.no_grad():
            yield device
        return
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    # A parameter with values cannot become one without in the same object.
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with warnings.catch_warnings(), torch.no_grad(), _SIMULATION, _Python():
            # Who compares where tensors lie finds all in one place.
            warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
            warnings.filterwarnings("ignore", "PyTorch was compiled without cuDNN")
            yield device
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


@contextmanager
def recording() -> Iterator[None]:
    """Context in `gpu()`, in which steps are as they are traced, and only do what a CUDA graph can hold.

    Nothing is read from the GPU, and no tensor comes from the CPU: what it holds would be that of the
    recording forever. Raises: Unrecordable, where there is no GPU.
    """
    before = _SIMULATION.records, torch.compiler._is_compiling_flag
    _SIMULATION.records = torch.compiler._is_compiling_flag = True
    try:
        yield
    finally:
        _SIMULATION.records, torch.compiler._is_compiling_flag = before


class _Simulation(FakeTensorMode):
    """Computes with tensors of the CPU; of those of the GPU, only what is known without values."""

    def __init__(self) -> None:
        super().__init__(allow_fallback_kernels=False)
        self.records = False
        self._inside = False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[object] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._inside:
            return super().__torch_dispatch__(func, types, args, kwargs)
        given = _tensors(args, kwargs)
        target = torch.device(kwargs.get("device") or "cpu").type
        if target == "cpu" and not any(isinstance(tensor, FakeTensor) for tensor in given):
            return func(*args, **kwargs)
        if self.records:
            _check_recordable(func, given, kwargs)
        if func is aten._local_scalar_dense.default:
            return _value(given[0]).item()
        if func is aten.copy_.default and not isinstance(given[0], FakeTensor):
            return given[0].copy_(_value(given[1]))
        computed = _computed(func, given, args, kwargs)
        self._inside = True
        try:
            if not all(isinstance(tensor, FakeTensor) for tensor in given):
                args, kwargs = tree_map(self._without_values, (args, kwargs))
            if func is aten.convolution.default:
                # What chooses the kernel cannot lay out tensors itself.
                args = tree_map(self._laid_out, args)
            try:
                found = super().__torch_dispatch__(func, types, args, kwargs)
            except UnsupportedOperatorException:
                found = self._shown_on_cpu(func, args, kwargs)
            except DynamicOutputShapeException:
                if computed is None:
                    computed = func(*tree_map(_zeros, args), **tree_map(_zeros, kwargs))
                found = tree_map(partial(self._without_values, device="cuda:0"), computed)
        finally:
            self._inside = False
        if computed is None:
            return _on_cpu(found) if isinstance(found, Tensor) else tree_map(_on_cpu, found)
        values = iter(tree_leaves(computed))
        return tree_map(lambda leaf: _with_value(leaf, next(values)), found)

    def _without_values(self, leaf: Any, device: str = "cpu") -> Any:
        if not isinstance(leaf, Tensor) or isinstance(leaf, FakeTensor):
            return leaf
        kind = {"dtype": leaf.dtype, "device": torch.device(device)}
        return super().__torch_dispatch__(
            aten.empty_strided.default, (), ([*leaf.shape], [*leaf.stride()]), kind
        )

    def _shown_on_cpu(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Return what an operator of which torch knows no shapes gives, by what it gives of zeros."""
        devices = {str(leaf.device) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        if len(devices) > 1:
            raise RuntimeError(
                f"{func} takes tensors on the same device, found {' and '.join(sorted(devices))}"
            )
        if func in _GPU_ONLY:
            return _GPU_ONLY[func](*args)
        args, kwargs = tree_map(_zeros, (args, kwargs))
        return tree_map(partial(self._without_values, device="cuda:0"), func(*args, **kwargs))

    def _laid_out(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        kind = {"memory_format": torch.contiguous_format}
        return super().__torch_dispatch__(aten.clone.default, (), (leaf,), kind)


_GPU_ONLY: dict[Any, Callable[..., Any]] = {
    aten._thnn_fused_gru_cell.default: lambda x, h, hx, *biases: (
        aten.empty_like.default(hx),
        aten.new_empty.default(hx, [len(hx), 5 * hx.shape[1]]),
    ),
    aten._thnn_fused_lstm_cell.default: lambda x, h, cx, *biases: (
        aten.empty_like.default(cx),
        aten.empty_like.default(cx),
        aten.empty_like.default(x),
    ),
}
"""What operators give that the CPU does not have."""
_SIMULATION = _Simulation()
"""One for all, since what caches keep of one simulation is met in the next."""


def _tensors(args: Sequence[object], kwargs: dict[str, object]) -> list[Tensor]:
    """Return the tensors among what an operator is given, where lists are flat."""
    given: list[Tensor] = []
    for item in (*args, *kwargs.values()):
        if isinstance(item, Tensor):
            given.append(item)
        elif isinstance(item, (list, tuple)):
            given += [leaf for leaf in item if isinstance(leaf, Tensor)]
    return given


def _zeros(leaf: Any) -> Any:
    return torch.zeros(leaf.shape, dtype=leaf.dtype) if isinstance(leaf, FakeTensor) else leaf


def _on_cpu(leaf: Any) -> Any:
    """Return zeros for what came from the GPU to the CPU."""
    return _zeros(leaf) if isinstance(leaf, FakeTensor) and leaf.device.type == "cpu" else leaf


def _with_value(leaf: Any, value: Any) -> Any:
    """Return a tensor whose value is known until something is written into it; on the CPU, the value."""
    if not isinstance(leaf, FakeTensor):
        return leaf
    if leaf.device.type == "cpu":
        return value
    leaf.known = value, leaf._version  # type: ignore[attr-defined]
    return leaf


def _known(tensor: Tensor) -> Tensor | None:
    """Return the value of a tensor, if it is known."""
    if not isinstance(tensor, FakeTensor):
        return tensor
    value, version = getattr(tensor, "known", (None, None))
    return value if version == tensor._version else None


def _value(tensor: Tensor) -> Tensor:
    """Return the value of a tensor of the GPU, or zeros."""
    value = _known(tensor)
    return torch.zeros(tensor.shape, dtype=tensor.dtype) if value is None else value


def _computed(func: Any, given: Sequence[Tensor], args: Any, kwargs: dict[str, Any]) -> Any:
    """Return what an operator gives of few whole numbers whose values are known; None of all else."""
    if func._schema.is_mutable or "empty" in str(func) or not all(map(_whole_and_few, given)):
        return None
    if any(_known(tensor) is None for tensor in given):
        return None
    kwargs = {**kwargs, **({"device": torch.device("cpu")} if "device" in kwargs else {})}
    found = func(*tree_map(_real, args), **tree_map(_real, kwargs))
    leaves = tree_leaves(found)
    return found if all(isinstance(leaf, Tensor) and _whole_and_few(leaf) for leaf in leaves) else None


def _real(leaf: Any) -> Any:
    return _known(leaf) if isinstance(leaf, Tensor) else leaf


def _whole_and_few(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex()) and tensor.numel() <= FEW


def _check_recordable(func: Any, given: Sequence[Tensor], kwargs: dict[str, Any]) -> None:
    if func in (aten._local_scalar_dense.default, aten.nonzero.default):
        raise Unrecordable(f"{func} reads a value from the GPU")
    cpu = next((tensor for tensor in given if not isinstance(tensor, FakeTensor)), None)
    if cpu is not None:
        raise Unrecordable(f"{func} takes {[*cpu.shape]} {cpu.dtype} from the CPU")
    if torch.device(kwargs.get("device") or "cuda").type != "cuda":
        raise Unrecordable(f"{func} brings a tensor from the GPU to {kwargs['device']}")


class _Python(TorchFunctionMode):
    """Does in Python what torch's methods do on a device of which they must know more than its name."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        done = _METHODS.get(func)
        if done is None or not isinstance(args[0], FakeTensor):
            return func(*args, **(kwargs or {}))
        return done(*args, **(kwargs or {}))


def _get(tensor: Tensor, index: Any) -> Tensor:
    part, indices = _sliced(tensor, index)
    return aten.index.Tensor(part, indices) if indices else part


def _set(tensor: Tensor, index: Any, value: Any) -> None:
    part, indices = _sliced(tensor, index)
    if not isinstance(value, Tensor):
        value = torch.full((), value, dtype=tensor.dtype, device=tensor.device)
    if indices:
        aten.index_put_.default(part, indices, value.to(part.device) if value.dim() == 0 else value)
        return
    while value.dim() > part.dim() and value.shape[0] == 1:
        value = value.squeeze(0)
    aten.copy_.default(part, value)


def _sliced(tensor: Tensor, index: Any) -> tuple[Tensor, list[Tensor | None]]:
    """Return a view by the numbers and slices of an index, and the tensors of it by dimension."""
    items = [*index] if isinstance(index, tuple) else [index]
    items = [
        torch.as_tensor(item, device=tensor.device) if isinstance(item, list) else item for item in items
    ]
    taken = sum(_dimensions(item) for item in items)
    rest = [slice(None)] * (tensor.dim() - taken)
    place = next((place for place, item in enumerate(items) if item is ...), None)
    if place is not None:
        items[place : place + 1] = rest
    indices: list[Tensor | None] = []
    dim = 0
    for item in items:
        if item is None:
            tensor = tensor.unsqueeze(dim)
        elif isinstance(item, slice):
            # Two of three take all that there is, of which another view says nothing.
            if item != slice(None):
                tensor = aten.slice.Tensor(tensor, dim, item.start, item.stop, item.step or 1)
        elif not isinstance(item, Tensor) or item.dim() == 0:
            tensor = tensor.select(dim, int(item))
            continue
        else:
            indices += [None] * (dim - len(indices)) + [item]
        dim += max(1, _dimensions(item))
    return tensor, indices


def _dimensions(item: Any) -> int:
    """Return how many dimensions of a tensor an item of an index takes."""
    if item is None or item is ...:
        return 0
    return item.dim() if isinstance(item, Tensor) and item.dtype == torch.bool else 1


def _item(tensor: Tensor) -> Any:
    return aten._local_scalar_dense.default(tensor)


def _new_tensor(tensor: Tensor, data: Any, **kwargs: Any) -> Tensor:
    return torch.tensor(data, **{"dtype": tensor.dtype, "device": tensor.device, **kwargs})


_METHODS: dict[Any, Callable[..., Any]] = {
    Tensor.__getitem__: _get,
    Tensor.__setitem__: _set,
    Tensor.copy_: lambda tensor, other, non_blocking=False: aten.copy_.default(tensor, other, non_blocking),
    Tensor.contiguous: lambda tensor, **kwargs: aten.contiguous.default(tensor, **kwargs),
    Tensor.new_tensor: _new_tensor,
    Tensor.data_ptr: lambda tensor: tensor.untyped_storage()._cdata + tensor.storage_offset(),
    Tensor.item: _item,
    Tensor.__int__: lambda tensor: int(_item(tensor)),
    Tensor.__index__: lambda tensor: int(_item(tensor)),
    Tensor.__float__: lambda tensor: float(_item(tensor)),
    Tensor.__bool__: lambda tensor: bool(_item(tensor)),
    Tensor.nonzero: lambda tensor: aten.nonzero.default(tensor),
    Tensor.__invert__: lambda tensor: aten.bitwise_not.default(tensor),
}
