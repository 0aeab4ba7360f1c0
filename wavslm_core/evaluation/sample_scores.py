"""Samples as they were written, judged: what is heard in prompt, truth and continuations, and scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavslm_core.data.audio import read_audio
from wavslm_core.machine.processes import ALONE, Processes, divide
from wavslm_core.machine.progress import progress_bar
from wavslm_core.parts.measurement import Measurement, joined, measure, score_documents, warn_of_failures
from wavslm_core.parts.metric import Metric


@dataclass(frozen=True)
class SampleScores:
    """What metrics that need no reference, or take the prompt for it, told of samples."""

    files: list[dict[str, dict[str, Any]]]
    """Of each sample: name of the file → its `scores`, and what was `heard` in it by each metric."""
    metrics: dict[str, Any]
    """Scores of all continuations beside those of the truth; intervals are over prompts."""


def judge_samples(
    metrics: Mapping[str, Metric[Any]],
    documents: Sequence[Mapping[str, Any]],
    *,
    folder: Path,
    processes: Processes = ALONE,
    stop_requested: Callable[[], bool] = lambda: False,
) -> SampleScores:
    """Judge the files of samples, such as `continue_all` leaves below `folder` and returns.

    Of all files but the prompt, what comes after the prompt is judged. `processes` divide the samples among
    each other. Raises: Interrupted.
    """
    total = len(documents) / processes.world_size
    with progress_bar("Judging", total=total, unit="prompts") as advance:

        def judge(place: int) -> dict[str, Measurement]:
            document = documents[place]
            rate_hz = document["sample_rate_hz"]
            boundary = round(document["prompt_seconds"] * rate_hz)
            prompt_S = read_audio(folder / document["folder"] / "prompt.wav")
            found = {}
            for name in document["files"]:
                waveform_S = read_audio(folder / document["folder"] / name)
                judged_S = waveform_S if name == "prompt.wav" else waveform_S[boundary:]
                found[name] = measure(metrics, prompt_S, judged_S, sample_rate_hz=rate_hz)
            advance(1)
            return found

        samples = divide(processes, range(len(documents)), judge, stop_requested=stop_requested)
    ids = [document["id"] for document in documents]
    said = [joined([m for name, m in found.items() if name.startswith("continuation")]) for found in samples]
    truths = [found["original.wav"] for found in samples]
    if processes.rank == 0:
        warn_of_failures(metrics, ids, said)
    return SampleScores(
        files=[
            {name: {"scores": m.scores, "heard": m.heard} for name, m in found.items()} for found in samples
        ],
        metrics=score_documents(metrics, ids, said, truths),
    )
