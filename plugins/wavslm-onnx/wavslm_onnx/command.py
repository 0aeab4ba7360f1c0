"""`wavslm export`: a model as ONNX graphs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from wavslm_core.plugin import WavslmError, echo


class Weights(StrEnum):
    """Arithmetic of matrix products."""

    fp32 = "fp32"
    int8 = "int8"


def export(
    model: Annotated[
        str, typer.Argument(help="Codec or language model: a folder, a run's folder, a name, or a hub id.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the graphs; replaced if it is there.")],
    to: Annotated[str, typer.Option(help="What to write: onnx.")] = "onnx",
    weights: Annotated[Weights, typer.Option(help="int8 rounds those of matrix products.")] = Weights.fp32,
    codec_only: Annotated[bool, typer.Option(help="Leave the language model out.")] = False,
) -> None:
    """Write the steps of a model as graphs that run without torch, with their states and digests.

    A language model draws with its own sampler. `wavslm_onnx.runner` runs what is written.
    """
    if to != "onnx":
        raise WavslmError(f"--to {to}: allowed is onnx")
    from wavslm_core.plugin import Codec, SpeechLM
    from wavslm_onnx.export import export_model

    loaded = Codec.load(model) if codec_only else SpeechLM.load(model)
    manifest = export_model(loaded, out, weights=weights.value, said=lambda text: echo(f"writing {text}"))
    size = sum(path.stat().st_size for path in out.iterdir())
    echo(f"{out}: {', '.join(entry['file'] for entry in manifest['graphs'].values())}, {size / 1e6:.1f} MB")
