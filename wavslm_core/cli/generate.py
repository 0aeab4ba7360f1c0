"""`wavslm generate`: let a language model speak on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def generate(
    model: Annotated[str, typer.Argument(help="Language model: a folder, a run's folder, or a hub id.")],
    prompts: Annotated[list[Path], typer.Argument(help="Audio files, or folders of them, to continue.")],
    out: Annotated[Path, typer.Option(help="Folder for WAVs and spectrograms.")] = Path("continuations"),
    codec: Annotated[str | None, typer.Option(help="Another codec than the model names.")] = None,
    continuations: Annotated[int, typer.Option(min=1, help="Continuations of each prompt.")] = 3,
    prompt_seconds: Annotated[float, typer.Option(min=0.08, help="How much of each file to use.")] = 3.0,
    seconds: Annotated[float, typer.Option(min=0.08, help="How long to speak on.")] = 5.0,
    seed: Annotated[int, typer.Option(help="Continuation n draws with seed + n.")] = 0,
    sampler: Annotated[str | None, typer.Option(help="Another sampler than the model's own.")] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", help="Option of that sampler: --set p=0.9")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Packed weights for speed on CPUs: fp32, bf16 or int8.")
    ] = None,
) -> None:
    """Continue recordings: WAVs and a spectrogram picture for each."""
    from wavslm_core.cli.inputs import find_files, load_speech_lm, sampler_options
    from wavslm_core.data.audio import read_audio
    from wavslm_core.data.audio_files import AUDIO_SUFFIXES
    from wavslm_core.data.progress import progress_bar
    from wavslm_core.evaluation.continuations import continue_all

    chosen = sampler_options(sampler, options or [])
    files = find_files(prompts, AUDIO_SUFFIXES)
    speech_lm = load_speech_lm(model, codec)
    speech_lm.make_sampler(chosen)
    if weights is not None:
        speech_lm = speech_lm.for_inference(weights=weights)
    rate_hz = speech_lm.codec.sample_rate_in
    recordings = [(str(relative), read_audio(file, sample_rate_hz=rate_hz)) for file, relative in files]
    with progress_bar("generate", total=len(files), unit="prompts") as advance:
        documents = continue_all(
            speech_lm,
            recordings,
            output=out,
            sample_rate_hz=rate_hz,
            prompt_seconds=prompt_seconds,
            seconds=seconds,
            count=continuations,
            seed=seed,
            sampler=chosen,
            before_each=lambda: advance(1),
        )
    for document in documents:
        typer.echo(f"{out / document['folder']}: {', '.join(document['files'])}, spectrograms.png")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(generate)
