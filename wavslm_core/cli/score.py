"""`wavslm score`: how likely recordings are to a language model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def score(
    model: Annotated[str, typer.Argument(help="Language model: a folder, a run's folder, or a hub id.")],
    inputs: Annotated[list[Path], typer.Argument(help="Audio files, or folders of them.")],
    codec: Annotated[str | None, typer.Option(help="Another codec than the model names.")] = None,
) -> None:
    """Print the log-likelihood of recordings, tab-separated: file, nats, nats per token, tokens scored.

    The first chunk has no past and is not scored.
    """
    import torch

    from wavslm_core.cli.inputs import find_files, load_speech_lm
    from wavslm_core.data.audio import read_audio
    from wavslm_core.data.audio_files import AUDIO_SUFFIXES
    from wavslm_core.errors import AudioError

    files = find_files(inputs, AUDIO_SUFFIXES)
    named = {path for path in inputs if not path.is_dir()}
    speech_lm = load_speech_lm(model, codec)
    rate_hz = speech_lm.codec.sample_rate_in
    typer.echo("file\tlog_likelihood\tper_token\ttokens")
    for file, relative in files:
        try:
            tokens = speech_lm.codec.encode(read_audio(file, sample_rate_hz=rate_hz)[None])
        except AudioError as error:
            if file in named:
                raise
            typer.echo(f"skipped: {error}", err=True)
            continue
        with torch.inference_mode():
            log_probs = speech_lm.log_probs(tokens)
        scored = log_probs[~log_probs.isnan()]
        if not scored.numel():
            typer.echo(f"skipped: {file} is no longer than the first chunk, which has no past", err=True)
            continue
        total = scored.double().sum().item()
        typer.echo(f"{relative}\t{total:.3f}\t{total / scored.numel():.4f}\t{scored.numel()}")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(score)
