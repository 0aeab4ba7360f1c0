"""Which numbers a device multiplies fast: autocast to bf16 only where it is native.

fp16 is left out on purpose: it needs loss scaling, and CPUs have no kernels worth using for it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16"]


def multiplies_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bf16 natively: CPUs with AVX512-BF16 or AMX, GPUs since Ampere."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # No public query covers every torch from 2.6 on; on other architectures these are False.
        queries = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, query, lambda: False)() for query in queries)
    return False


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return a fresh context under which forward passes run in the wanted precision."""
    wanted = precision == "bf16" or (precision == "auto" and multiplies_bf16(device))
    if not wanted:
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
