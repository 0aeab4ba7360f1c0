"""`wavslm encode`: recordings to token files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def encode(
    codec: Annotated[str, typer.Argument(help="Codec: a folder, a run's folder, or a hub id.")],
    inputs: Annotated[list[Path], typer.Argument(help="Audio files, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for the token files.")] = Path("tokens"),
) -> None:
    """Turn recordings into tokens: one .npz a recording, in the same tree.

    In folders, files that are no usable audio are skipped and listed; a file that is named itself must be.
    """
    import torch

    from wavslm_core.cli.inputs import find_files
    from wavslm_core.codec import Codec
    from wavslm_core.data.audio import read_audio
    from wavslm_core.data.audio_files import AUDIO_SUFFIXES
    from wavslm_core.data.progress import progress_bar
    from wavslm_core.errors import AudioError
    from wavslm_core.token_files import SUFFIX, TokenFile

    files = find_files(inputs, AUDIO_SUFFIXES)
    named = {path for path in inputs if not path.is_dir()}
    model = Codec.load(codec)
    seconds, skipped = 0.0, 0
    with progress_bar("encode", total=len(files), unit="files") as advance:
        for file, relative in files:
            try:
                waveform = read_audio(file, sample_rate_hz=model.sample_rate_in)
                tokens = model.encode(waveform[None])[0]
            except AudioError as error:
                if file in named:
                    raise
                typer.echo(f"skipped: {error}", err=True)
                skipped += 1
                continue
            TokenFile(
                tokens_T=tokens.to(torch.int64).numpy(),
                samples=waveform.numel(),
                sample_rate_hz=model.sample_rate_in,
                vocab_size=model.facts.quantizer.vocab_size,
                codec=codec,
            ).write((out / relative).with_suffix(SUFFIX))
            seconds += waveform.numel() / model.sample_rate_in
            advance(1)
    typer.echo(f"{len(files) - skipped} recordings ({seconds:.1f} s) → {out}, {skipped} skipped")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(encode)
