"""A whole model of the reference plugins, as people use it from Python: the streams of codec and speech."""

from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor

from wavslm_core import Codec, SpeechLM
from wavslm_core.parts.blocks import config_from_dict
from wavslm_core.parts.plugins import load_registry
from wavslm_core.testing.fakes import fake_codec, fake_speech_lm

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


def test_rows_that_part_and_hear_while_they_speak_say_what_they_say_alone(
    model: SpeechLM, waveform: Tensor
) -> None:
    """With caches that are rings, and long enough for those to be full."""
    turns = [(2, 3), (1, 0), (4, 30), (1, 2)]

    def alone(row: int) -> list[Tensor]:
        session = model.session()
        session.join(seed=row)
        said, heard = [], waveform[row : row + 1]
        for chunks, times in turns:
            piece, heard = heard[:, : chunks * CHUNK], heard[:, chunks * CHUNK :]
            said += session.hear(piece)
            said += [audio for _ in range(times) for audio in session.speak()]
        return [*said, session.leave(0)]

    session = model.session()
    rows = [session.join(seed=seed) for seed in range(2)]
    said: dict[int, list[Tensor]] = {row: [] for row in rows}
    place = 0
    for number, (chunks, times) in enumerate(turns):
        piece = waveform[:, place * CHUNK : (place + chunks) * CHUNK]
        place += chunks
        together = [rows] if number < 2 else [[row] for row in rows]
        for group in together:
            for row, audio in zip(group, session.hear(piece[group], group), strict=True):
                said[row].append(audio)
            for _ in range(times):
                for row, audio in zip(group, session.speak(group), strict=True):
                    said[row].append(audio)
    for row in rows:
        audio = torch.cat([*said[row], session.leave(row)])
        torch.testing.assert_close(audio, torch.cat(alone(row)), atol=1e-5, rtol=1e-5)
        assert audio.numel() == sum(times for _, times in turns) * CHUNK


def test_hearing_and_speaking_is_generating_and_decoding(model: SpeechLM, waveform: Tensor) -> None:
    prompts, _ = model.encode_prompt(waveform, sample_rate=16000)
    new = model.generate(prompts, new_tokens=4 * 40, seed=1)
    offline = model.decode_continuation(prompts, new)
    session = model.session()
    for seed in (1, 2):
        session.join(seed=seed)
    for piece in waveform.split([CHUNK, 4 * CHUNK, 3 * CHUNK], dim=1):
        session.hear(piece)
    said = torch.cat([torch.stack(session.speak()) for _ in range(40)], dim=1)
    ends = torch.stack([session.leave(row) for row in session.rows])
    assert ends.shape[1] == model.codec.facts.decoder.delay_samples
    torch.testing.assert_close(torch.cat([said, ends], dim=1), offline, atol=1e-4, rtol=1e-4)


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


@pytest.mark.parametrize("chunk_tokens", [1, 2, 3])
def test_a_session_of_frames_that_are_several_tokens(waveform: Tensor, chunk_tokens: int) -> None:
    torch.manual_seed(0)
    plain = fake_codec(delay_samples=700)
    options = {"name": "residual", "input_dim": 16, "num_levels": 2, "codes_per_level": 16}
    quantizer = load_registry().build(config_from_dict("quantizer", options, where="quantizer"))
    codec = Codec(plain.encoder, quantizer, plain.decoder)
    model = fake_speech_lm(codec, chunk_tokens=chunk_tokens, reads="embedding")
    session = model.session()
    row = session.join(seed=5)
    said = [audio for piece in waveform[:1].split(2 * CHUNK, dim=1) for audio in session.hear(piece)]
    said += [audio for _ in range(7) for audio in session.speak()]
    audio = torch.cat([*said, session.leave(row)])
    prompts, _ = model.encode_prompt(waveform[:1], sample_rate=16000)
    new, _ = model.generate_speech(prompts, samples=audio.numel(), seed=5)
    offline = model.decode_continuation(prompts, new)[0, : audio.numel()]
    torch.testing.assert_close(audio, offline, atol=1e-5, rtol=1e-5)
