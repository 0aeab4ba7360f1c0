"""Registers this distribution's quantizers; imports no torch."""

from wavslm_core.plugin import Register, hookimpl
from wavslm_vector_quantize.codebook_configs import KMeansConfig, ResidualConfig, SimVqConfig, VqConfig
from wavslm_vector_quantize.scalar_configs import BsqConfig, FsqConfig, LfqConfig

PACKAGE = "wavslm_vector_quantize"


@hookimpl
def register_quantizers(register: Register) -> None:
    register(FsqConfig, f"{PACKAGE}.scalars:Fsq")
    register(LfqConfig, f"{PACKAGE}.scalars:Lfq")
    register(BsqConfig, f"{PACKAGE}.scalars:Bsq")
    register(VqConfig, f"{PACKAGE}.vectors:Vq")
    register(SimVqConfig, f"{PACKAGE}.vectors:SimVq")
    register(ResidualConfig, f"{PACKAGE}.vectors:Residual")
    register(KMeansConfig, f"{PACKAGE}.k_means:KMeans")
