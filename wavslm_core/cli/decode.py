"""`wavslm decode`: token files to recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wavslm_core.cli.inputs import DeviceOption, Files, counted, find_files, output_files, usable_device
from wavslm_core.machine.devices import AUTO
from wavslm_core.machine.terminal import echo


def decode(
    codec: Annotated[str, typer.Argument(help="Codec: a folder, a run's folder, a name, or a hub id.")],
    inputs: Annotated[list[Path], typer.Argument(help="Token files, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for the recordings.")] = Path("decoded"),
    device: DeviceOption = AUTO,
) -> None:
    """Turn token files back into speech: one WAV a token file, in the same tree.

    In folders, files that hold no tokens of this codec are skipped and listed; a file that is named itself
    must.
    """
    import torch

    from wavslm_core.data.audio import write_audio
    from wavslm_core.data.token_files import SUFFIX, TokenFile
    from wavslm_core.errors import DataError
    from wavslm_core.machine.progress import progress_bar
    from wavslm_core.model.codec import Codec

    target = usable_device(device)
    files = find_files(inputs, {SUFFIX})
    outputs = output_files(files, out, old={SUFFIX}, new=".wav")
    model = Codec.load(codec, device=target)
    vocab_size, rate_hz = model.facts.quantizer.vocab_size, model.sample_rate_in

    def read(file: Path) -> TokenFile:
        held = TokenFile.read(file)
        if (held.vocab_size, held.sample_rate_hz) != (vocab_size, rate_hz):
            raise DataError(
                f"{file} holds tokens of a codec with {held.vocab_size} codes at "
                f"{held.sample_rate_hz} Hz ({held.codec}), but {codec} has {vocab_size} at {rate_hz} Hz. "
                "Decode with the codec that encoded"
            )
        return held

    token_files = Files(files, read)
    written, seconds = 0, 0.0
    with progress_bar("decode", total=len(files), unit="files") as advance:
        for place, held in token_files.each(advance):
            samples = held.samples * model.sample_rate_out // held.sample_rate_hz
            tokens_1T = torch.from_numpy(held.tokens_T)[None].to(target)
            waveform_S = model.decode(tokens_1T)[0, :samples].cpu()
            with token_files.writing(place):
                write_audio(outputs[place], waveform_S, model.sample_rate_out)
                seconds += waveform_S.numel() / model.sample_rate_out
                written += 1
    echo(
        f"{counted(written, 'recording')} ({seconds:.1f} s at {model.sample_rate_out} Hz) → {out}"
        f"{token_files.skipped_in_words}"
    )
