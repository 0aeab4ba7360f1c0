"""`wavslm decode`: token files to recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def decode(
    codec: Annotated[str, typer.Argument(help="Codec: a folder, a run's folder, or a hub id.")],
    inputs: Annotated[list[Path], typer.Argument(help="Token files, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for the recordings.")] = Path("decoded"),
) -> None:
    """Turn token files back into speech: one WAV a token file, in the same tree."""
    import torch

    from wavslm_core.cli.inputs import find_files
    from wavslm_core.codec import Codec
    from wavslm_core.data.audio import write_audio
    from wavslm_core.data.progress import progress_bar
    from wavslm_core.errors import DataError
    from wavslm_core.token_files import SUFFIX, TokenFile

    files = find_files(inputs, {SUFFIX})
    model = Codec.load(codec)
    seconds = 0.0
    with progress_bar("decode", total=len(files), unit="files") as advance:
        for file, relative in files:
            held = TokenFile.read(file)
            if held.vocab_size != model.facts.quantizer.vocab_size:
                raise DataError(
                    f"{file} holds tokens of a codec with {held.vocab_size} codes ({held.codec}), but "
                    f"{codec} has {model.facts.quantizer.vocab_size}. Decode with the codec that encoded"
                )
            samples = held.samples * model.sample_rate_out // held.sample_rate_hz
            waveform = model.decode(torch.from_numpy(held.tokens_T)[None])[0, :samples]
            write_audio((out / relative).with_suffix(".wav"), waveform, model.sample_rate_out)
            seconds += waveform.numel() / model.sample_rate_out
            advance(1)
    typer.echo(f"{len(files)} recordings ({seconds:.1f} s) → {out}")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(decode)
