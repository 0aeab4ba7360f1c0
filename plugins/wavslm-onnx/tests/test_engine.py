"""The engine `onnxruntime`: what a model says through graphs is what it says through torch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from wavslm_core import SpeechLM
from wavslm_core.errors import WavslmError
from wavslm_core.model.inference import EngineStep
from wavslm_core.testing.fakes import fake_codec
from wavslm_onnx.engine import KEPT_STREAMS, compiled

CHUNK = 1280
SECONDS = 31.2
"""Whole turns of hearing and speaking."""


@pytest.fixture(scope="module")
def fast(model: SpeechLM) -> SpeechLM:
    return model.for_inference(engine="onnxruntime")


@pytest.fixture(scope="module")
def speech() -> torch.Tensor:
    return 0.1 * torch.randn(1, 40 * CHUNK, generator=torch.Generator().manual_seed(2))


@pytest.mark.slow
def test_a_codec_of_small_parts_streams_as_it_is(speech: torch.Tensor) -> None:
    torch.manual_seed(0)
    codec = fake_codec()
    stream = codec.for_inference(engine="onnxruntime").stream()
    tokens = torch.cat([stream.encode(piece) for piece in speech.split(CHUNK, dim=1)], dim=1)
    assert torch.equal(tokens, codec.encode(speech))
    audio = torch.cat([stream.decode(piece) for piece in tokens.split(4, dim=1)], dim=1)
    torch.testing.assert_close(audio, codec.decode(tokens), atol=1e-5, rtol=0.0)


@pytest.mark.slow
def test_every_part_steps_through_a_graph(fast: SpeechLM) -> None:
    codec = fast.codec
    steps = (codec.encoder.step, codec.quantizer.encode_step, codec.quantizer.decode_step, codec.decoder.step)
    assert all(isinstance(step, EngineStep) for step in (*steps, fast.backbone.step))


@pytest.mark.slow
def test_tokens_of_half_a_minute_are_those_of_torch(
    model: SpeechLM, fast: SpeechLM, speech: torch.Tensor
) -> None:
    """Drawn with the same random numbers, while it hears in between."""
    heard: dict[str, list[torch.Tensor]] = {}
    for name, chosen in {"torch": model, "onnxruntime": fast}.items():
        session = chosen.session()
        session.join(seed=7)
        pieces: list[torch.Tensor] = []
        for turn in range(10):
            session.hear(speech[:, 4 * turn * CHUNK : 4 * (turn + 1) * CHUNK])
            for _ in range(round(SECONDS / 0.08) // 10 - 4):
                pieces += session.speak()
        heard[name] = pieces
        assert len(pieces) * 0.08 > SECONDS - 4
    torch.testing.assert_close(
        torch.cat(heard["onnxruntime"]), torch.cat(heard["torch"]), atol=1e-3, rtol=0.0
    )
    tokens = model.codec.encode(speech)
    drawn = [chosen.generate(tokens, new_tokens=50 * 30, seed=3) for chosen in (model, fast)]
    assert torch.equal(*drawn)


@pytest.mark.slow
def test_streams_are_what_is_given_offline(fast: SpeechLM, speech: torch.Tensor) -> None:
    codec, stream = fast.codec, fast.codec.stream()
    tokens = torch.cat([stream.encode(piece) for piece in speech.split(CHUNK, dim=1)], dim=1)
    assert torch.equal(tokens, codec.encode(speech))
    audio = torch.cat([*(stream.decode(piece) for piece in tokens.split(4, dim=1)), stream.flush()], dim=1)
    delay = codec.facts.decoder.delay_samples
    torch.testing.assert_close(audio[:, delay:], codec.decode(tokens), atol=1e-4, rtol=0.0)
    prompt = tokens[:, :40]
    new = fast.generate(prompt, new_tokens=200, seed=5)
    session = fast.session()
    row = session.join(seed=5)
    session.read(prompt)
    said = torch.cat([*(audio for _ in range(50) for audio in session.speak()), session.leave(row)])
    torch.testing.assert_close(said, fast.decode_continuation(prompt, new)[0], atol=1e-4, rtol=0.0)


@pytest.mark.slow
def test_more_streams_than_are_bound_do_not_mix(fast: SpeechLM, speech: torch.Tensor) -> None:
    count = KEPT_STREAMS + 2
    streams = [fast.codec.stream() for _ in range(count)]
    pieces = speech.split(CHUNK, dim=1)
    found = [
        torch.cat([stream.encode(pieces[(place + step) % 10]) for step in range(10)], dim=1)
        for place, stream in enumerate(streams)
    ]
    again = [fast.codec.stream() for _ in range(count)]
    turns: list[list[torch.Tensor]] = [[] for _ in again]
    for step in range(10):
        for place, stream in enumerate(again):
            turns[place].append(stream.encode(pieces[(place + step) % 10]))
    for tokens, turn in zip(found, turns, strict=True):
        assert torch.equal(torch.cat(turn, dim=1), tokens)


@pytest.mark.slow
def test_one_chunk_and_several_may_take_turns(model: SpeechLM, fast: SpeechLM, speech: torch.Tensor) -> None:
    sizes = [1, 1, 3, 1, 5, 1, 1, 2, 1] * 2
    pieces = speech.split([CHUNK * size for size in sizes] + [speech.shape[1] - CHUNK * sum(sizes)], dim=1)
    given = []
    for codec in (model.codec, fast.codec):
        stream = codec.stream()
        given.append(torch.cat([stream.decode(stream.encode(piece)) for piece in pieces[:-1]], dim=1))
    torch.testing.assert_close(given[1], given[0], atol=1e-4, rtol=0.0)


@pytest.mark.slow
def test_int8_is_close(model: SpeechLM, speech: torch.Tensor) -> None:
    coarse = model.codec.for_inference(weights="int8", engine="onnxruntime")
    streams = model.codec.stream(), coarse.stream()
    tokens = [
        torch.cat([stream.encode(piece) for piece in speech.split(CHUNK, dim=1)], dim=1) for stream in streams
    ]
    assert (tokens[0] == tokens[1]).float().mean().item() > 0.5
    exact, rounded = (
        torch.cat([stream.decode(piece) for piece in tokens[0].split(4, dim=1)], dim=1)
        for stream in (model.codec.stream(), coarse.stream())
    )
    assert 0 < (exact - rounded).abs().mean().item() < 0.2 * exact.abs().mean().item()


@pytest.mark.slow
def test_copies_share_graphs(fast: SpeechLM, speech: torch.Tensor) -> None:
    step = copy.deepcopy(fast).backbone.step
    assert isinstance(step, EngineStep)
    assert isinstance(fast.backbone.step, EngineStep)
    assert step.fast is fast.backbone.step.fast


def test_without_what_writes_graphs_it_says_what_to_install(
    model: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wavslm_onnx.export", None)
    backbone: Any = model.backbone
    with pytest.raises(WavslmError, match=r"pip install 'wavslm-onnx\[export\]'"):
        compiled(backbone, torch.zeros(1, 4, 32), backbone.init_state(1), weights="fp32")
