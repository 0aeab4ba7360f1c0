from pathlib import Path

import numpy as np
import pytest

from tests.support import sound_bytes
from wavslm_core.data.audio_files import audio_info, proven_info, read_samples
from wavslm_core.data.audio_source import AudioBytes
from wavslm_core.data.containers.chunks import chunks_layout
from wavslm_core.errors import AudioError

RATE_HZ = 16000
NOISE = 0.1 * np.random.default_rng(0).standard_normal(RATE_HZ)


def encoded(kind: str = "WAV", subtype: str = "PCM_16", **options: str) -> bytes:
    return sound_bytes(NOISE, RATE_HZ, format=kind, subtype=subtype, **options)


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


def test_a_length_that_ran_over_32_bits_does_not_end_the_audio(tmp_path: Path) -> None:
    path, samples = tmp_path / "x.wav", (1 << 31) + 2000
    with path.open("wb") as file:
        file.write(announcing(encoded()[:44], 4000))
        # What is not written takes no room.
        file.truncate(44 + 2 * samples + 30)
    with path.open("rb") as file:
        layout = chunks_layout(file, 0)
    assert f"announces {1 << 32} bytes less than there are" in layout.remark
    assert [(stream.start, stream.end) for stream in layout.streams] == [(44, 44 + 2 * samples)]
    info = audio_info(path)
    assert info.samples == samples
    with path.open("r+b") as file:
        file.seek(44 + 2 * (samples - 1))
        file.write((1 << 14).to_bytes(2, "little"))
    assert read_samples(path, start=samples - 2, samples=2, info=info)[0].tolist() == [0.0, 0.5]


APE_TAG = b"cover art" * 2300 + b"APETAGEX" + (2000).to_bytes(4, "little") + (20732).to_bytes(4, "little")
APE_TAG += bytes(16)
ID3_TAG = b"ID3\x04\x00\x00\x00\x01\x20\x00" + b"\x01" * 20480


@pytest.mark.parametrize("kind", ["WAV", "AIFF"])
@pytest.mark.parametrize(
    ("behind", "said"),
    [(APE_TAG, ""), (b"TAG" + bytes(125), ""), (bytes(20480), "20480 bytes"), (ID3_TAG, "20490 bytes")],
)
def test_whatever_follows_the_samples_of_a_closed_file_is_no_audio(
    kind: str, behind: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = AudioBytes("x.wav", encoded(kind) + behind)
    assert proven_info(source).samples == RATE_HZ
    assert caplog.text.count("bytes that are no audio follow its samples") == bool(said)
    assert said in caplog.text
    np.testing.assert_array_equal(
        read_samples(source)[0], read_samples(AudioBytes("y.wav", encoded(kind)))[0]
    )


@pytest.mark.parametrize("length", [0, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF, 0xFFFFFFDB])
@pytest.mark.parametrize("behind", [b"", APE_TAG])
def test_a_length_that_nobody_measured_is_that_of_what_follows(length: int, behind: bytes) -> None:
    source = AudioBytes("x.wav", announcing(encoded(), length) + behind)
    assert proven_info(source).samples == RATE_HZ
    assert len(read_samples(source)[0]) == RATE_HZ


def test_chunks_behind_the_samples_are_no_audio() -> None:
    notes = b"LIST" + (12).to_bytes(4, "little") + b"INFOabcdefgh"
    for data in (encoded() + notes, announcing(encoded()[:-1], 2 * RATE_HZ - 1) + notes):
        assert proven_info(AudioBytes("x.wav", data)).samples in (RATE_HZ, RATE_HZ - 1)
    empty = announcing(encoded()[:44], 0) + notes
    with pytest.raises(AudioError, match="holds no samples"):
        proven_info(AudioBytes("x.wav", empty))
