"""`wavslm encode`: recordings to token files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wavslm_core.cli.inputs import DeviceOption, Recordings, counted, find_files, output_files, usable_device
from wavslm_core.machine.devices import AUTO
from wavslm_core.machine.terminal import echo


def encode(
    codec: Annotated[str, typer.Argument(help="Codec: a folder, a run's folder, a name, or a hub id.")],
    inputs: Annotated[list[Path], typer.Argument(help="Audio files, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for the token files.")] = Path("tokens"),
    device: DeviceOption = AUTO,
) -> None:
    """Turn recordings into tokens: one .npz a recording, in the same tree.

    In folders, files that are no usable audio are skipped and listed; a file that is named itself must be.
    """
    import torch

    from wavslm_core.data.audio_files import AUDIO_SUFFIXES
    from wavslm_core.data.token_files import SUFFIX, TokenFile
    from wavslm_core.errors import AudioError
    from wavslm_core.machine.progress import progress_bar
    from wavslm_core.model.codec import Codec

    target = usable_device(device)
    files = find_files(inputs, AUDIO_SUFFIXES)
    outputs = output_files(files, out, old=AUDIO_SUFFIXES, new=SUFFIX)
    model = Codec.load(codec, device=target)
    recordings = Recordings(files, sample_rate_hz=model.sample_rate_in)
    samples = tokens = written = 0
    with progress_bar("encode", total=len(files), unit="files") as advance:
        for place, waveform_S in recordings.each(advance):
            if not int(model.token_lengths(torch.tensor(waveform_S.numel()))):
                error = AudioError(f"{files[place].file} is too short for a single token; leave it out")
                recordings.skip(place, error)
                continue
            tokens_T = model.encode(waveform_S[None].to(target))[0].cpu()
            with recordings.writing(place):
                TokenFile(
                    tokens_T=tokens_T.to(torch.int64).numpy(),
                    samples=waveform_S.numel(),
                    sample_rate_hz=model.sample_rate_in,
                    vocab_size=model.facts.quantizer.vocab_size,
                    codec=codec,
                ).write(outputs[place])
                samples += waveform_S.numel()
                tokens += tokens_T.numel()
                written += 1
    seconds = samples / model.sample_rate_in
    echo(
        f"{counted(written, 'recording')} ({seconds:.1f} s, {tokens} tokens) → {out}"
        f"{recordings.skipped_in_words}"
    )
