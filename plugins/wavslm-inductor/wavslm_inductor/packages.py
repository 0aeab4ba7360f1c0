"""What is compiled, in the user's cache: a package for each graph and kind of machine, without weights.

Models of one shape share a package, however they were trained: what it reads of them is told when it is
loaded. A package holds machine code; it is made here, and taken from this user's own cache alone.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.export import ExportedProgram

from wavslm_core.plugin import (
    DataError,
    WavslmError,
    cache_folder,
    echo,
    json_digest,
    one_at_a_time,
    processor,
    quiet,
    replacing,
    summary,
)

T = TypeVar("T")

VECTORS: Mapping[str, Any] = {"cpp.vec_isa_ok": True}
"""What the processor says of itself is taken at its word: to try each instruction set takes ten seconds."""
OPTIONS: Mapping[str, Any] = {
    **VECTORS,
    "aot_inductor.package_constants_in_so": False,
    # What several read is computed once, such as the bias on attention, which all layers share.
    "realize_opcount_threshold": 10,
    # Numbers of few entries would be written into what is compiled, which other models share.
    "always_keep_tensor_constants": True,
}
SECONDS, SECONDS_A_NODE = 5, 0.05
"""About what compiling takes on a core, with the operators of a graph."""


def compiled_package(program: ExportedProgram, *, named: str) -> Any:
    """Return what runs a program, compiled here or once before: torch's loader, to be given constants.

    `named` is what is said while it compiles. Raises: WavslmError where it cannot be compiled.
    """
    return kept(
        f"{json_digest(_identity(program))}.pt2", lambda path: _compile(program, path, named=named), _load
    )


def kept(name: str, make: Callable[[Path], None], load: Callable[[Path], T]) -> T:
    """Return what `load` makes of a file of this user's cache, which `make` writes if it is not there."""
    try:
        folder = cache_folder() / "inductor"
        path = folder / name
        with one_at_a_time(path.with_suffix(".lock")):
            if path.exists():
                # One that does not load is made anew.
                with suppress(RuntimeError, OSError):
                    return load(path)
            with replacing(path, durable=False) as beside:
                make(beside)
            return load(path)
    except DataError:
        # A cache that cannot be written is done without; what was loaded needs its file no more.
        with tempfile.TemporaryDirectory(prefix="wavslm-inductor-", ignore_cleanup_errors=True) as temporary:
            path = Path(temporary) / name
            make(path)
            return load(path)


def _identity(program: ExportedProgram) -> dict[str, Any]:
    """Return all that what is compiled depends on."""
    tensors = [
        [node.name, [*value.shape], [*value.stride()], str(value.dtype)]
        for node in program.graph.nodes
        if node.op == "placeholder" and isinstance(value := node.meta["val"], torch.Tensor)
    ]
    return {
        "graph": program.graph_module.code,
        "signature": str(program.graph_signature),
        "tensors": tensors,
        "same": _same(program),
        "options": {**OPTIONS},
        "threads": torch.get_num_threads(),
        **machine(),
    }


def machine() -> dict[str, Any]:
    """Return what machine code depends on that torch's compiler makes here."""
    return {
        "torch": torch.__version__,
        "processor": processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def _same(program: ExportedProgram) -> list[list[str]]:
    """Return names of tensors that lie in one place, which what is compiled reads under one name."""
    names: dict[object, list[str]] = {}
    for name, tensor in [*program.state_dict.items(), *program.constants.items()]:
        if isinstance(tensor, torch.Tensor) and tensor.numel():
            place = tensor.data_ptr(), tensor.shape, tensor.stride()
            names.setdefault(place, []).append(name)
    return [same for same in names.values() if len(same) > 1]


def _load(path: Path) -> Any:
    # One runner: what is compiled writes into states, and calls from several threads wait for each other.
    return torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)


def has_compiler() -> bool:
    """Return whether there is a C++ compiler that torch finds."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


def compiling(what: str, seconds: float, compile_it: Callable[[], object]) -> None:
    """Compile something, and say so. Raises: WavslmError without a compiler, or where it fails."""
    if not has_compiler():
        raise WavslmError(
            "the engine inductor compiles steps, and no C++ compiler is found here: install one "
            "(apt-get install g++), or name one in CXX. Or give engine='torch'"
        )
    echo(f"compiling {what} for this machine, once: about {seconds:.0f} s", err=True)
    start = time.monotonic()
    try:
        with quiet():
            compile_it()
    except Exception as error:
        raise WavslmError(
            f"the engine inductor cannot compile {what}: {summary(error)}. Give engine='torch', "
            "or another compiler in CXX"
        ) from error
    echo(f"compiled in {time.monotonic() - start:.0f} s", err=True)


def _compile(program: ExportedProgram, path: Path, *, named: str) -> None:
    from torch._inductor import aoti_compile_and_package

    # torch adds to the options that it is given.
    compiling(
        f"the step of {named}",
        SECONDS + SECONDS_A_NODE * len(program.graph.nodes),
        lambda: aoti_compile_and_package(program, package_path=str(path), inductor_configs={**OPTIONS}),
    )
