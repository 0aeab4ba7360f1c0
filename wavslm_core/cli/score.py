"""`wavslm score`: how likely recordings are to a language model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wavslm_core.cli.inputs import (
    DeviceOption,
    Recordings,
    counted,
    find_files,
    load_speech_lm,
    usable_device,
)
from wavslm_core.machine.devices import AUTO
from wavslm_core.machine.terminal import echo, echo_row


def score(
    model: Annotated[
        str, typer.Argument(help="Language model: a folder, a run's folder, a name, or a hub id.")
    ],
    inputs: Annotated[list[Path], typer.Argument(help="Audio files, or folders of them.")],
    codec: Annotated[str | None, typer.Option(help="Another codec than the model names.")] = None,
    device: DeviceOption = AUTO,
) -> None:
    """Print the log-likelihood of recordings, tab-separated: file, nats, nats per token, tokens scored.

    Whole chunks count; the first one has no past and is not scored. In folders, files that cannot be scored
    are skipped and listed; a file that is named itself must be usable.
    """
    import math

    import torch

    from wavslm_core.data.audio_files import AUDIO_SUFFIXES, printable
    from wavslm_core.errors import AudioError
    from wavslm_core.machine.progress import progress_bar
    from wavslm_core.model.prompts import chunk_in_words

    target = usable_device(device)
    files = find_files(inputs, AUDIO_SUFFIXES)
    speech_lm = load_speech_lm(model, codec, device=target)
    recordings = Recordings(files, sample_rate_hz=speech_lm.codec.sample_rate_in)
    chunk = chunk_in_words(speech_lm.codec, speech_lm.chunk_tokens)
    sum_nats, sum_tokens, scored = 0.0, 0, 0
    echo_row("file", "log_likelihood", "per_token", "tokens")
    with progress_bar("score", total=len(files), unit="files") as advance, torch.inference_mode():
        for place, waveform_S in recordings.each(advance):
            found = speech_lm.score_speech(waveform_S, sample_rate=recordings.sample_rate_hz)
            nats, count = found.nats.item(), int(found.counts)
            if count == 0:
                lasts_ms = 1000 * waveform_S.numel() / recordings.sample_rate_hz
                error = AudioError(
                    f"{files[place].file} lasts {lasts_ms:.0f} ms: no whole chunk ({chunk}) follows the "
                    "first, which has no past; leave it out"
                )
                recordings.skip(place, error)
                continue
            name = printable(files[place].relative)
            echo_row(name, f"{nats:.3f}", f"{nats / count:.4f}", str(count))
            sum_nats, sum_tokens, scored = sum_nats + nats, sum_tokens + count, scored + 1
    bits = -sum_nats / sum_tokens / math.log(2)
    echo(
        f"{counted(scored, 'recording')}, {sum_tokens} tokens: {bits:.3f} bits per token"
        f"{recordings.skipped_in_words}",
        err=True,
    )
