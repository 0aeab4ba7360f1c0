"""Options of focal maps: those of wavslm-focalcodec-stream when it is installed. No torch here.

Without it the name stays known, so that a recipe which asks for it is told what to install.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, model_validator

if TYPE_CHECKING or find_spec("wavslm_focalcodec_stream") is not None:
    from wavslm_focalcodec_stream.maps import CompressorOptions, DecompressorOptions

    class FocalCompressorOptions(CompressorOptions):
        """Causal focal modulation from features to latents, as in FocalCodec-Stream."""

        name: Literal["focal"] = "focal"

    class FocalDecompressorOptions(DecompressorOptions):
        """Causal focal modulation from codes to features, as in FocalCodec-Stream."""

        name: Literal["focal"] = "focal"

else:

    class _Absent(BaseModel):
        """Focal maps; they come with wavslm-focalcodec-stream, which is not installed."""

        name: Literal["focal"] = "focal"

        @model_validator(mode="before")
        @classmethod
        def _say_what_to_install(cls, value: Any) -> Any:
            raise ValueError(
                "focal maps come with another distribution: pip install 'wavslm-vector-quantize[focal]' "
                "(or wavslm-focalcodec-stream), or use {name: conv}"
            )

    class FocalCompressorOptions(_Absent):
        pass

    class FocalDecompressorOptions(_Absent):
        pass


__all__ = ["FocalCompressorOptions", "FocalDecompressorOptions"]
