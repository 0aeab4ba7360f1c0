"""`wavslm generate`: let a language model speak on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wavslm_core.cli.inputs import (
    DeviceOption,
    Recordings,
    counted,
    find_files,
    load_speech_lm,
    sampler_options,
    usable_device,
)
from wavslm_core.errors import AudioError
from wavslm_core.machine.devices import AUTO
from wavslm_core.machine.terminal import echo

if TYPE_CHECKING:
    from torch import Tensor

    from wavslm_core.model.speech_lm import SpeechLM


def generate(
    model: Annotated[
        str, typer.Argument(help="Language model: a folder, a run's folder, a name, or a hub id.")
    ],
    prompts: Annotated[list[Path], typer.Argument(help="Audio files, or folders of them, to continue.")],
    out: Annotated[Path, typer.Option(help="Folder for WAVs and spectrograms.")] = Path("continuations"),
    codec: Annotated[str | None, typer.Option(help="Another codec than the model names.")] = None,
    continuations: Annotated[int, typer.Option(min=1, help="Continuations of each prompt.")] = 3,
    prompt_seconds: Annotated[
        float, typer.Option(min=0.01, max=3600, help="How much of each file to use.")
    ] = 3.0,
    seconds: Annotated[float, typer.Option(min=0.01, max=3600, help="How long to speak on.")] = 5.0,
    seed: Annotated[
        int, typer.Option(min=0, max=2**62, help="Continuation n of prompt p draws with seed + p · N + n.")
    ] = 0,
    sampler: Annotated[str | None, typer.Option(help="Another sampler than the model's own.")] = None,
    options: Annotated[
        list[str] | None, typer.Option("--set", help="Option of that sampler: --set p=0.9")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Packed weights for speed on CPUs: fp32, bf16, int8, or auto.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="What makes the steps: torch, onnxruntime, inductor, cuda_graphs, or auto, the fastest here."
        ),
    ] = None,
    device: DeviceOption = AUTO,
) -> None:
    """Continue recordings: a folder with WAVs and a spectrogram picture for each prompt.

    In folders, files that cannot be continued are skipped and listed; a file that is named itself must be
    usable.
    """
    import time

    from wavslm_core.data.audio_files import AUDIO_SUFFIXES, printable
    from wavslm_core.evaluation.continuations import continue_all
    from wavslm_core.machine.progress import progress_bar
    from wavslm_core.model.inference import cpu_only

    chosen = sampler_options(sampler, options or [])
    target = usable_device(device, cpu_only=cpu_only(weights, engine))
    files = find_files(prompts, AUDIO_SUFFIXES)
    speech_lm = load_speech_lm(model, codec, device=target)
    candidates = speech_lm.make_sampler(chosen).config.facts().candidates
    if weights is not None or engine is not None:
        speech_lm = speech_lm.for_inference(
            weights=weights or "fp32",
            engine=engine or "torch",
            # All continuations of a prompt are one batch.
            rows=(continuations * candidates,) if target.type == "cuda" else (1,),
        )
    rate_hz = speech_lm.codec.sample_rate_in
    recordings = Recordings(files, sample_rate_hz=rate_hz)
    used = []
    for place, waveform_S in recordings:
        # What comes after is shown beside the continuations, as what was really said.
        waveform_S = waveform_S[: round((prompt_seconds + seconds) * rate_hz)]
        error = _too_short(speech_lm, waveform_S, prompt_seconds, printable(files[place].file))
        if error is None:
            used.append((printable(files[place].relative), waveform_S))
        else:
            recordings.skip(place, error)
    began = time.monotonic()
    with progress_bar("generate", total=len(used), unit="prompts") as advance:

        def written(document: Any) -> None:
            echo(f"{out / document['folder']}: {', '.join(document['files'])}, spectrograms.png")
            advance(1)

        continue_all(
            speech_lm,
            used,
            output=out,
            sample_rate_hz=rate_hz,
            prompt_seconds=prompt_seconds,
            seconds=seconds,
            count=continuations,
            seed=seed,
            sampler=chosen,
            after_each=written,
        )
    elapsed_s = time.monotonic() - began
    spoken_s = len(used) * continuations * seconds
    echo(
        f"{counted(len(used), 'prompt')} × {counted(continuations, 'continuation')} of {seconds:g} s → {out} "
        f"in {elapsed_s:.1f} s ({spoken_s / elapsed_s:.1f} × real time){recordings.skipped_in_words}"
    )


def _too_short(
    speech_lm: SpeechLM, waveform_S: Tensor, prompt_seconds: float, name: str
) -> AudioError | None:
    """Return what is wrong when the prompt gives no whole chunk."""
    import torch

    from wavslm_core.model.prompts import chunk_in_words, prompt_unit

    codec = speech_lm.codec
    prompt_S = waveform_S[: round(prompt_seconds * codec.sample_rate_in)]
    unit = prompt_unit(codec, speech_lm.chunk_tokens)
    if codec.facts.quantizer.variable_rate:
        # How many tokens there are depends on what is said.
        try:
            speech_lm.encode_prompt(prompt_S, sample_rate=codec.sample_rate_in)
            return None
        except AudioError:
            pass
    elif int(codec.token_lengths(torch.tensor(prompt_S.numel()))) >= unit:
        return None
    return AudioError(
        f"{name} gives a prompt of {1000 * prompt_S.numel() / codec.sample_rate_in:.0f} ms, shorter than one "
        f"chunk ({chunk_in_words(codec, unit)}). Give a longer recording or more --prompt-seconds"
    )
