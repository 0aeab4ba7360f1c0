"""Speech continued: the same prompt spoken on several times, and everything to hear and see of it on disk."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavslm_core.data.audio import write_audio
from wavslm_core.errors import AudioError
from wavslm_core.evaluation.reconstruction import reconstruct
from wavslm_core.machine.files import write_json
from wavslm_core.machine.processes import ALONE, Processes, divide
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.model.token_lm import SamplerLike
from wavslm_core.model.weights import write_folder
from wavslm_core.parts.interfaces import Sampler
from wavslm_core.plotting import png_bytes, rendered, spectrogram_figure
from wavslm_core.run.folder import SAMPLE_FILE, readable


@dataclass(frozen=True)
class Continuations:
    """N continuations of one prompt, all at `sample_rate_hz`, the rate of the codec's output."""

    prompt_tokens_T: Tensor
    """Whole chunks."""
    new_tokens: list[Tensor]
    """N times the tokens (T,); of equal length unless the quantizer merges runs."""
    spoken: list[Tensor]
    """Prompt and continuation decoded together, so that there is no seam: N waveforms (S,)."""
    prompt_samples: int
    """Where the continuation starts in each."""
    sample_rate_hz: int

    @property
    def new(self) -> list[Tensor]:
        """The continuations alone: N waveforms (S',)."""
        return [waveform_S[self.prompt_samples :] for waveform_S in self.spoken]

    @property
    def prompt_seconds(self) -> float:
        return self.prompt_samples / self.sample_rate_hz


@torch.no_grad()
def continue_waveform(
    speech_lm: SpeechLM,
    prompt_S: Tensor,
    *,
    sample_rate_hz: int,
    seconds: float,
    count: int = 1,
    seed: int = 0,
    sampler: SamplerLike = None,
) -> Continuations:
    """Continue a prompt (S,) `count` times by `seconds`; continuation n draws with seed + n.

    The prompt is cut to whole chunks. Raises: AudioError when it is shorter than one chunk or not one
    channel; RecipeError for an unknown sampler or option.
    """
    if prompt_S.ndim != 1:
        raise AudioError(f"a prompt is one waveform (S,), got {list(prompt_S.shape)}: mix its channels down")
    codec = speech_lm.codec
    prompt_BT, _ = speech_lm.encode_prompt(prompt_S, sample_rate=sample_rate_hz)
    new_samples = round(seconds * codec.sample_rate_out)
    prompts_NT = prompt_BT.expand(count, -1)
    new_NT, sizes_N = speech_lm.generate_speech(prompts_NT, samples=new_samples, sampler=sampler, seed=seed)
    prompt_samples = int(codec.decoded_samples(prompt_BT))
    joined_NT = torch.cat([prompts_NT, new_NT], dim=1)
    decoded_NS = codec.decode(joined_NT, lengths=prompt_BT.shape[1] + sizes_N)
    return Continuations(
        prompt_tokens_T=prompt_BT[0].cpu(),
        new_tokens=[new_T[:size].cpu() for new_T, size in zip(new_NT, sizes_N.tolist(), strict=True)],
        spoken=list(decoded_NS[:, : prompt_samples + new_samples].cpu()),
        prompt_samples=prompt_samples,
        sample_rate_hz=codec.sample_rate_out,
    )


def write_sample(
    folder: Path,
    continuations: Continuations,
    *,
    original_S: Tensor,
    reconstruction_S: Tensor,
    prompt_S: Tensor,
    details: Mapping[str, Any],
) -> dict[str, Any]:
    """Write `original.wav`, `prompt.wav`, `reconstruction.wav`, `continuation_<n>.wav`, `spectrograms.png`.

    All waveforms are at the continuations' rate; each continuation starts with its prompt, whose end
    `sample.json` tells together with `details`. A folder that was there is replaced as a whole.
    Returns what `sample.json` holds. Raises: CheckpointError when it cannot be written.
    """
    rate_hz = continuations.sample_rate_hz
    audio = {"original": original_S, "prompt": prompt_S, "reconstruction": reconstruction_S}
    spoken = {f"continuation_{n}": waveform_S for n, waveform_S in enumerate(continuations.spoken)}
    document = {
        **details,
        "sample_rate_hz": rate_hz,
        "prompt_seconds": continuations.prompt_seconds,
        "files": [f"{name}.wav" for name in (*audio, *spoken)],
        "prompt_tokens": continuations.prompt_tokens_T.tolist(),
        "new_tokens": [new_T.tolist() for new_T in continuations.new_tokens],
    }
    shown = {"original": original_S, "reconstruction": reconstruction_S, **spoken}

    def fill(temporary: Path) -> None:
        for name, waveform_S in {**audio, **spoken}.items():
            write_audio(temporary / f"{name}.wav", waveform_S, rate_hz)
        png = rendered(
            lambda: spectrogram_figure(
                {readable(name): (waveform_S, rate_hz) for name, waveform_S in shown.items()},
                boundary_s={readable(name): continuations.prompt_seconds for name in spoken},
            ),
            png_bytes,
            what=f"spectrograms of {folder.name}",
        )
        if png is not None:
            (temporary / "spectrograms.png").write_bytes(png)
        write_json(temporary / SAMPLE_FILE, document)

    write_folder(folder, fill, replaces=("*.wav", "spectrograms.png", SAMPLE_FILE))
    return document


def folder_name(place: int, utterance_id: str) -> str:
    """Return a file-system-safe name that keeps the order and tells the utterance."""
    bare = re.sub(r"\.(wav|flac|ogg|mp3)$", "", utterance_id, flags=re.IGNORECASE)
    safe = re.sub(r"[^A-Za-z0-9-]+", "_", bare).strip("_")
    return f"{place:02d}_{safe[-60:]}" if safe else f"{place:02d}"


def continue_all(
    speech_lm: SpeechLM,
    prompts: Sequence[tuple[str, Tensor]],
    *,
    output: Path,
    sample_rate_hz: int,
    prompt_seconds: float,
    seconds: float,
    count: int,
    seed: int = 0,
    sampler: SamplerLike = None,
    processes: Processes = ALONE,
    stop_requested: Callable[[], bool] = lambda: False,
    after_each: Callable[[Mapping[str, Any]], None] = lambda document: None,
) -> list[dict[str, Any]]:
    """Continue recordings, (id, waveform (S,) at `sample_rate_hz`), and write one folder each below `output`.

    `sample_rate_hz` is the codec's input rate. A prompt is a recording's first `prompt_seconds`; its original
    and reconstruction go on for as long as the continuation does. Recording p, continuation n draws with
    seed + p · count + n. Returns each folder's `sample.json` with its `folder`; `after_each` gets it as soon
    as the folder is written. `processes` divide the recordings among each other. Raises: Interrupted.
    """
    from wavslm_core.data.audio import resample

    codec = speech_lm.codec

    def continue_one(place: int) -> dict[str, Any]:
        name, waveform_S = prompts[place]
        prompt_S = waveform_S[: round(prompt_seconds * sample_rate_hz)]
        original_S = waveform_S[: round((prompt_seconds + seconds) * sample_rate_hz)]
        continuations = continue_waveform(
            speech_lm,
            prompt_S,
            sample_rate_hz=sample_rate_hz,
            seconds=seconds,
            count=count,
            seed=seed + place * count,
            sampler=sampler,
        )
        folder = output / folder_name(place, name)
        details = {"id": name, "seed": seed + place * count, "sampler": _described(sampler)}
        document = write_sample(
            folder,
            continuations,
            original_S=resample(original_S, sample_rate_hz, codec.sample_rate_out),
            prompt_S=resample(prompt_S, sample_rate_hz, codec.sample_rate_out),
            reconstruction_S=reconstruct(codec, [original_S])[0],
            details=details,
        )
        found = {"folder": folder.name, **document}
        after_each(found)
        return found

    return divide(processes, range(len(prompts)), continue_one, stop_requested=stop_requested)


def _described(sampler: SamplerLike) -> Any:
    """Return JSON values that say which sampler was asked for; None for the model's own."""
    if isinstance(sampler, Sampler):
        return sampler.config.model_dump(mode="json")
    return sampler
