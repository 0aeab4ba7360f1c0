"""The operators of `kernels.cpp`, built for this machine once, as compiled steps call them."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from wavslm_core.plugin import WavslmError, cache_folder, json_digest, summary
from wavslm_inductor.packages import VECTORS, compiling, kept, machine

SOURCE = Path(__file__).with_name("kernels.cpp")
FLAGS = ("-ftree-loop-vectorize",)
"""torch turns it off for what it writes, in which vectors are spelt out. Only g++ knows it."""
BUILT_IN_S = 5
FEW_ROWS = 16
"""Up to this many, a product is a loop or a kernel of ours; BLAS would copy what it multiplies with."""


@cache
def load_kernels() -> None:
    """Make `torch.ops.wavslm_inductor.int8_linear` and `.few_rows_product` known, in this process, once.

    Raises: WavslmError where they cannot be built, or not be loaded from the user's cache.
    """
    made_of = {"source": hashlib.sha256(SOURCE.read_bytes()).hexdigest(), "flags": [*FLAGS], **machine()}
    try:
        kept(f"{json_digest(made_of)}.so", _build, torch.ops.load_library)
    except OSError as error:
        raise WavslmError(
            f"the engine inductor cannot load what it built in {cache_folder()}: {summary(error)}. Let "
            "WAVSLM_CACHE name a folder from which programs may run, or give engine='torch'"
        ) from error
    torch.library.register_fake("wavslm_inductor::int8_linear", _int8_linear)
    torch.library.register_fake("wavslm_inductor::few_rows_product", _few_rows_product)


def products(a: Tensor, b: Tensor) -> Tensor:
    """Return (B,M,K) times (B,K,N), with a kernel of ours where M is few and N lies side by side."""
    ours = a.dtype == b.dtype == torch.float32 and a.shape[1] <= FEW_ROWS and b.stride(2) == 1
    if not ours:
        return NotImplemented
    y: Tensor = torch.ops.wavslm_inductor.few_rows_product(a, b)
    return y


def added_products(given: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """Return `alpha` times the products, and `beta` times what is given."""
    y = products(a, b)
    if y is NotImplemented:
        return y
    y = y if alpha == 1 else alpha * y
    if beta == 0:
        # What is given may be anything then, even no number.
        return y
    return y + given if beta == 1 else y + beta * given


def _build(path: Path) -> None:
    from torch._inductor import config
    from torch._inductor.cpp_builder import CppBuilder, CppTorchOptions, is_gcc
    from torch._inductor.cpu_vec_isa import pick_vec_isa

    def build() -> None:
        flags = [flag for flag in FLAGS if is_gcc() or not flag.startswith("-ftree")]
        with config.patch({**VECTORS}):
            options = CppTorchOptions(pick_vec_isa(), warning_all=False, extra_flags=flags)
            CppBuilder(path.stem, str(SOURCE), options, output_dir=str(path.parent)).build()

    compiling("products of few rows", BUILT_IN_S, build)


def _int8_linear(x: Tensor, weights: Tensor, scales: Tensor, sums: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], len(scales))


def _few_rows_product(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty(a.shape[0], a.shape[1], b.shape[2])
