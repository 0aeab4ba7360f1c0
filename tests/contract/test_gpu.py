"""Whole models stay on a GPU, whoever draws; and what stands for a GPU in tests refuses what one would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.contract.cases import CASES
from wavslm_core.evaluation.continuations import continue_all
from wavslm_core.model.chunk_step import ChunkStep
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.parts.interfaces import State
from wavslm_core.testing.gpu import Unrecordable, gpu, recording

BuildModel = Callable[..., SpeechLM]
NUCLEUS = {"name": "top_p", "p": 0.9}
HEADS: dict[str, dict[str, Any]] = {
    "next_chunk": {"name": "next_chunk", "chunk_tokens": 4},
    "bitwise": {"name": "bitwise"},
    "gru of bits": {"name": "chunk_autoregressive", "dim": 16, "output": "bits", "bit_dim": 8},
    "transformer": {"name": "chunk_autoregressive", "dim": 16, "inner": "transformer", "output": "linear"},
}
OTHER_HEADS = [name for name in HEADS if name != "next_chunk"]
SLOW_HEADS = ["next_chunk", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHER_HEADS)]
FEW = 16
"""Tokens, of which each costs a head of bits four draws."""
SAMPLERS = {name: case.options for name, case in CASES.items() if case.role == "sampler"}


def speaks(model: SpeechLM) -> dict[str, Tensor]:
    """Return what a model gives in all ways in which people let it speak."""
    waveform = torch.zeros(2, 4 * model.codec.facts.chunk_samples_in)
    prompt = torch.zeros(2, 8, dtype=torch.int64)
    session = model.session()
    for row in range(3):
        session.join(seed=row)
    session.read(prompt[:1].repeat(3, 1))
    spoken = [*session.speak(), *session.speak([1]), *session.speak([1, 2])]
    session.hear(waveform[:1], [0])
    stream = model.codec.stream(batch_size=2)
    return {
        "generate": model.generate(prompt, new_tokens=5),
        "decode_continuation": model.decode_continuation(prompt, prompt),
        "score_speech": model.score_speech(waveform, sample_rate=8000, lengths=[5000, 2560]).log_probs_BT,
        "continue_speech": model.continue_speech(
            waveform, sample_rate=16000, seconds=0.1, lengths=[5000, 2560]
        ),
        "speak": torch.cat([*spoken, *session.speak([0, 1])]),
        "leave": session.leave(1),
        "reconstruct": model.codec.reconstruct(waveform, lengths=[waveform.shape[1], 900]),
        "a stream": stream.decode(stream.encode(waveform)),
    }


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_a_model_stays_on_the_device_that_it_was_moved_to(build_model: BuildModel, head: str) -> None:
    model = build_model(codebook_size=FEW, head=HEADS[head], sampler=NUCLEUS)
    with gpu() as device:
        places = {way: found.device for way, found in speaks(model.to(device)).items()}
    assert places == dict.fromkeys(places, device)


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "BestOf"])
@pytest.mark.parametrize("head", SLOW_HEADS)
def test_whole_steps_can_be_recorded(build_model: BuildModel, head: str, sampler: str) -> None:
    """With every head and sampler: all of the state on the GPU, nothing read, nothing from the CPU."""
    model = build_model(codebook_size=FEW, head=HEADS[head], sampler=[SAMPLERS[sampler]])
    with gpu() as device:
        step, state, uniforms = begun(model.to(device), device)
        with recording():
            said, *state = step(uniforms, *state)
    # So the next step is given what this one was.
    assert {tensor.device for tensor in (said, *state)} == {device}
    assert said.shape == (2, 4)


def begun(model: SpeechLM, device: torch.device) -> tuple[ChunkStep, State, Tensor]:
    """Return a model's whole step, and state and numbers of two rows."""
    quantizer = model.codec.quantizer if model.reads_features else None
    step = ChunkStep(quantizer, model.backbone, model.head, model.sampler)
    state = step.after(torch.zeros(2, 4, dtype=torch.int64, device=device))
    state = tuple(tensor.to(device) for tensor in state)
    return step, state, torch.zeros(2, step.uniforms, device=device)


def test_best_of_several_on_a_gpu(build_model: BuildModel) -> None:
    model = build_model(codebook_size=FEW, sampler=[SAMPLERS["BestOf"]])
    with gpu() as device:
        model = model.to(device)
        assert model.generate(torch.zeros(2, 8, dtype=torch.int64), new_tokens=5).device == device


@pytest.mark.slow
def test_what_is_generated_on_a_gpu_is_written(build_model: BuildModel, tmp_path: Path) -> None:
    """All that `wavslm generate --device cuda` does with recordings."""
    model = build_model(codebook_size=FEW, sampler=NUCLEUS)
    waveform = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(0))
    with gpu() as device:
        (written,) = continue_all(
            model.to(device),
            [("one", waveform)],
            output=tmp_path,
            sample_rate_hz=16000,
            prompt_seconds=0.5,
            seconds=0.3,
            count=2,
        )
    assert {"prompt.wav", "continuation_0.wav", "continuation_1.wav"} <= {*written["files"]}
    assert (tmp_path / written["folder"] / "continuation_1.wav").stat().st_size > 1000


REFUSED: dict[str, tuple[Callable[[Tensor], object], str]] = {
    "a value": (lambda x: int(x.sum()), "reads a value"),
    "a truth": (lambda x: bool((x > 0).any()), "reads a value"),
    "a list": (lambda x: x.tolist(), "reads a value"),
    "a copy": (lambda x: x.cpu(), "brings a tensor"),
    "places": (lambda x: x.nonzero(), "reads a value"),
    "a number of the CPU": (lambda x: x + torch.tensor(1.0), "takes .* from the CPU"),
    "a tensor of the CPU": (lambda x: torch.arange(3).to(x.device), "takes .* from the CPU"),
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which is used instead")
@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_recorded_is_refused(what: str) -> None:
    does, says = REFUSED[what]
    with gpu() as device:
        x = torch.zeros(3, device=device)
        does(x)
        with recording(), pytest.raises(Unrecordable, match=says):
            does(x)
        does(x)


def test_tensors_on_two_devices_do_not_meet() -> None:
    with gpu() as device:
        x = torch.zeros(3, 3).to(device)
        assert (x + 1.0 + torch.tensor(1.0)).device == device
        for wrong in (
            lambda: x + torch.zeros(3),
            lambda: x @ torch.zeros(3),
            lambda: torch.cat([x, torch.zeros(1, 3)]),
        ):
            with pytest.raises(RuntimeError, match="device"):
                wrong()


def test_whole_numbers_that_were_brought_to_a_gpu_are_known_there() -> None:
    with gpu() as device:
        lengths = torch.tensor([5, 3]).to(device)
        assert (lengths * 2 + torch.tensor(1)).tolist() == [11, 7]
        assert int(torch.full((2,), 4, device=device).sum()) == 8
        assert (lengths[1:] > 2).nonzero().cpu().tolist() == [[0]]
        assert torch.arange(3, device=device).flip(0).tolist() == [2, 1, 0]
        lengths[0] = 9
        assert lengths.tolist() == ([9, 3] if torch.cuda.is_available() else [0, 0])


INDICES: list[Any] = [
    0, -1, slice(1), (slice(None), 2), (..., 0), (None, slice(0, 4, 2)), (0, ..., None, slice(1, None)),
    ([0, 2],), (slice(None), torch.tensor([1, 0, 1])), (torch.tensor([[0], [1]]), torch.tensor([1, 2])),
    (0, torch.tensor([0, 2]), slice(None, -1)), torch.tensor(1),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_indices_mean_what_they_mean(index: Any) -> None:
    real = torch.zeros(4, 5, 6)
    with gpu() as device:
        x = real.to(device)
        assert x[index].shape == real[index].shape
        assert x[index].stride() == real[index].stride()
        x[index] = 1.0
        x[index] = torch.zeros_like(x[index])[None]
