"""A whole model of the reference plugins, as people use it from Python: the streams of codec and speech."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor

from wavslm_core import SpeechLM

CHUNK = 1280


@pytest.fixture(scope="module")
def model(small_run: Path) -> SpeechLM:
    return SpeechLM.load(small_run)


@pytest.fixture(scope="module")
def waveform() -> Tensor:
    return torch.randn(2, 8 * CHUNK, generator=torch.Generator().manual_seed(0)) * 0.1


@pytest.fixture(scope="module")
def tokens(model: SpeechLM, waveform: Tensor) -> Tensor:
    return model.codec.encode(waveform)


@pytest.mark.parametrize("modes", [(True, False, False), (True, True, False), (False, True, False)])
@pytest.mark.parametrize("weights", [None, "int8"])
def test_streams_go_on_in_another_mode_than_they_began_in(
    model: SpeechLM, waveform: Tensor, tokens: Tensor, modes: tuple[bool, ...], weights: str | None
) -> None:
    """Begun in one mode, advanced in two others by turns."""
    used = model if weights is None else model.for_inference(weights=weights)

    def streamed(begun: bool, *steps: bool) -> Tensor:
        with torch.inference_mode(begun):
            codec_stream, speech = used.codec.stream(batch_size=2), used.stream(tokens, seed=1)
        pieces = []
        for place, piece_BS in enumerate(waveform.split(CHUNK, dim=1)):
            with torch.inference_mode(steps[place % 2]):
                pieces += [codec_stream.decode(codec_stream.encode(piece_BS)), next(speech)]
        return torch.cat([*pieces, codec_stream.flush()], dim=1)

    assert torch.equal(streamed(*modes), streamed(False, False, False))


def test_the_first_piece_of_speech_is_shorter_by_the_decoders_delay(model: SpeechLM, tokens: Tensor) -> None:
    delay = model.codec.facts.decoder.delay_samples
    assert 0 < delay < CHUNK
    pieces = list(islice(model.stream(tokens, seed=0), 4))
    assert [piece.shape[1] for piece in pieces] == [CHUNK - delay, CHUNK, CHUNK, CHUNK]
    stream = model.codec.stream(batch_size=2)
    first = stream.decode(tokens[:, :4])
    assert first.shape[1] == CHUNK
    decoded = model.codec.decode(tokens)
    torch.testing.assert_close(first[:, delay:], decoded[:, : CHUNK - delay], atol=1e-5, rtol=1e-5)
