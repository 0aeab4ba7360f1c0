from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from wavslm_core.data.audio_files import proven_info, read_samples
from wavslm_core.data.audio_source import AudioBytes
from wavslm_core.errors import AudioError

RATE_HZ = 16000
NOISE = 0.1 * np.random.default_rng(0).standard_normal(RATE_HZ)


def encoded(kind: str = "WAV", subtype: str = "PCM_16", **options: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, NOISE, RATE_HZ, format=kind, subtype=subtype, **options)
    return buffer.getvalue()


def announcing(data: bytes, length: int, *, name: bytes = b"data", order: str = "little") -> bytes:
    """Return a file whose chunk of samples says that it has that many bytes."""
    at = data.index(name) + 4
    return data[:at] + length.to_bytes(4, order) + data[at + 4 :]  # type: ignore[arg-type]


@pytest.mark.parametrize("riff", [True, False])
@pytest.mark.parametrize(
    ("data", "name", "order"),
    [
        (encoded(), b"data", "little"),
        (encoded(endian="BIG"), b"data", "big"),
        (encoded("WAVEX", "FLOAT"), b"data", "little"),
        (encoded("AIFF"), b"SSND", "big"),
    ],
)
def test_a_file_that_was_never_closed_is_read_with_a_warning(
    data: bytes, name: bytes, order: str, riff: bool, caplog: pytest.LogCaptureFixture
) -> None:
    unclosed = announcing(data, 0, name=name, order=order)
    if riff:
        unclosed = unclosed[:4] + bytes(4) + unclosed[8:]
    source = AudioBytes("x.wav", unclosed)
    info = proven_info(source)
    assert info.samples == RATE_HZ
    assert "x.wav: it was never closed" in caplog.text
    whole, _ = read_samples(source)
    np.testing.assert_array_equal(whole, read_samples(AudioBytes("y.wav", data))[0])
    np.testing.assert_array_equal(
        read_samples(source, start=9000, samples=70, info=info)[0], whole[9000:9070]
    )


@pytest.mark.parametrize("more", [1, 2, 16, 2000])
def test_a_few_bytes_too_many_announced_are_warned_of(more: int, caplog: pytest.LogCaptureFixture) -> None:
    source = AudioBytes("x.wav", announcing(encoded(), 2 * RATE_HZ + more))
    assert proven_info(source).samples == RATE_HZ
    assert f"announces {more} bytes of samples more than there are" in caplog.text


def test_many_bytes_less_than_announced_are_a_file_that_was_cut_off() -> None:
    for kind in ("WAV", "WAVEX", "AIFF", "W64", "RF64"):
        data = encoded(kind)
        with pytest.raises(AudioError, match=r"is cut off: \d+ bytes of its samples are missing"):
            proven_info(AudioBytes("x.wav", data[: len(data) * 2 // 3]))
        assert proven_info(AudioBytes("x.wav", data)).samples == RATE_HZ


def test_a_length_that_ran_over_32_bits_does_not_end_the_audio(caplog: pytest.LogCaptureFixture) -> None:
    source = AudioBytes("x.wav", announcing(encoded(), 4000))
    assert proven_info(source).samples == RATE_HZ
    assert "announces 28000 bytes less than there are" in caplog.text


def test_chunks_behind_the_samples_are_no_audio() -> None:
    notes = b"LIST" + (12).to_bytes(4, "little") + b"INFOabcdefgh"
    for data in (encoded() + notes, announcing(encoded()[:-1], 2 * RATE_HZ - 1) + notes):
        assert proven_info(AudioBytes("x.wav", data)).samples in (RATE_HZ, RATE_HZ - 1)
    empty = announcing(encoded()[:44], 0) + notes
    with pytest.raises(AudioError, match="holds no samples"):
        proven_info(AudioBytes("x.wav", empty))
