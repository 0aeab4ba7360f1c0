import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from tests.support import sound_bytes
from wavslm_core.data.audio import read_audio
from wavslm_core.data.audio_files import audio_info, proven_info, read_samples
from wavslm_core.data.audio_source import AudioBytes
from wavslm_core.data.containers import flac
from wavslm_core.data.containers.stream import Layout
from wavslm_core.errors import AudioError

RATE_HZ = 16000


def encoded(seconds: float, *, seed: int = 0, subtype: str = "PCM_16", channels: int = 1) -> bytes:
    noise = np.random.default_rng(seed).standard_normal((round(seconds * RATE_HZ), channels))
    return sound_bytes(0.1 * noise, RATE_HZ, format="FLAC", subtype=subtype)


def announcing(data: bytes, samples: int) -> bytes:
    """Return a FLAC file whose header says that it has that many samples."""
    packed = int.from_bytes(data[18:26], "big") >> 36 << 36 | samples
    return data[:18] + packed.to_bytes(8, "big") + data[26:]


@pytest.mark.parametrize("announced", [0, 1, 5000, 31999])
@pytest.mark.parametrize(("subtype", "channels"), [("PCM_16", 1), ("PCM_24", 2)])
def test_a_header_that_says_too_little_loses_nothing(announced: int, subtype: str, channels: int) -> None:
    data = encoded(2.0, subtype=subtype, channels=channels)
    source = AudioBytes("x.flac", announcing(data, announced))
    info = proven_info(source)
    assert info.samples == 2 * RATE_HZ
    whole, _ = read_samples(source)
    np.testing.assert_array_equal(whole, read_samples(AudioBytes("y.flac", data))[0])
    part, _ = read_samples(source, start=30000, samples=2000, info=info)
    np.testing.assert_array_equal(part, whole[30000:])


def test_a_file_of_unknown_length_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "piped.flac"
    path.write_bytes(announcing(encoded(1.5), 0))
    assert len(read_audio(path)) == 1.5 * RATE_HZ


@pytest.mark.parametrize("seconds", [(1.0, 1.0), (1.0, 2.5, 0.5), (30.0, 30.0)])
def test_joined_files_are_read_to_the_end_of_the_last(seconds: tuple[float, ...]) -> None:
    parts = [encoded(length, seed=seed) for seed, length in enumerate(seconds)]
    source = AudioBytes("x.flac", b"".join(parts))
    info = proven_info(source)
    assert info.samples == sum(seconds) * RATE_HZ
    whole, _ = read_samples(source, info=info)
    expected = [soundfile.read(io.BytesIO(part), dtype="float32")[0] for part in parts]
    np.testing.assert_array_equal(whole, np.concatenate(expected))


def test_a_file_that_was_cut_off_is_refused_with_what_is_there() -> None:
    data = encoded(2.0)
    with pytest.raises(AudioError, match="is cut off: its header says 32000 samples, 20480 are there"):
        audio_info(AudioBytes("x.flac", data[: len(data) * 2 // 3]))


def test_a_header_that_says_a_little_too_much_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    source = AudioBytes("x.flac", announcing(encoded(1.0), RATE_HZ + 10))
    assert proven_info(source).samples == RATE_HZ
    assert "x.flac: its header says 16010 samples, 16000 are there" in caplog.text


def test_tags_before_and_after_do_not_count() -> None:
    data = announcing(encoded(1.0), 0)
    tag = b"ID3\x04\x00\x00\x00\x00\x00\x20" + bytes(32)
    assert audio_info(AudioBytes("x.flac", tag + data)).samples == RATE_HZ
    assert audio_info(AudioBytes("x.flac", data + b"TAG" + bytes(125))).samples == RATE_HZ


def ape_tag(content: bytes) -> bytes:
    length = (len(content) + 32).to_bytes(4, "little")
    return content + b"APETAGEX" + (2000).to_bytes(4, "little") + length + bytes(16)


COVER = np.random.default_rng(5).bytes(40_000)


@pytest.mark.parametrize(
    "behind", [ape_tag(COVER), ape_tag(COVER) + b"TAG" + bytes(125), COVER, bytes(3 << 20)]
)
@pytest.mark.parametrize("announced", [3 * RATE_HZ, 0])
def test_much_that_follows_the_audio_does_not_count(behind: bytes, announced: int) -> None:
    data = encoded(3.0)
    source = AudioBytes("x.flac", announcing(data, announced) + behind)
    info = proven_info(source)
    assert info.samples == 3 * RATE_HZ
    expected = read_samples(AudioBytes("y.flac", data))[0]
    np.testing.assert_array_equal(read_samples(source, info=info)[0], expected)
    joined = AudioBytes("x.flac", data + COVER + data + behind)
    assert proven_info(joined).samples == 6 * RATE_HZ
    np.testing.assert_array_equal(read_samples(joined)[0], np.tile(expected, 2))


def test_a_file_that_was_cut_off_and_tagged_is_refused() -> None:
    data = encoded(2.0)
    for behind in (ape_tag(COVER), COVER):
        with pytest.raises(AudioError, match="its header says 32000 samples, 20480 are there"):
            audio_info(AudioBytes("x.flac", data[: len(data) * 2 // 3] + behind))


def test_a_header_without_frames_is_refused() -> None:
    data = encoded(1.0)
    for length in (42, 60, 8300):
        with pytest.raises(AudioError, match=r"x\.flac"):
            proven_info(AudioBytes("x.flac", data[:length]))


def noisy(seconds: float, *, channels: int) -> npt.NDArray[np.int16]:
    """Return samples (S,C) that no encoder can compress: a file holds them as they are."""
    shape = (round(seconds * RATE_HZ), channels)
    return np.random.default_rng(0).integers(-(1 << 15), 1 << 15, shape, dtype=np.int16)


def as_flac(samples_SC: npt.NDArray[np.int16]) -> bytes:
    return sound_bytes(samples_SC, RATE_HZ, format="FLAC", subtype="PCM_16")


def header_of(
    data: bytes, *, rate: int | None = None, bits: int | None = None, number: bytes = b"\0"
) -> bytes:
    """Return the header of a file's first frame, with other codes if they are given, its check sum right."""
    header = bytearray(data[data.index(b"\xff\xf8") :][:4])
    if rate is not None:
        header[2] = header[2] & 0xF0 | rate
    if bits is not None:
        header[3] = header[3] & 0xF1 | bits << 1
    header += number
    value = 0
    for byte in header:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ (0x107 if value & 0x80 else 0)) & 0x1FF
    return bytes(header) + bytes([value])


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    "codes",
    [
        {},
        {"rate": 10},
        {"bits": 6},
        {"number": b"\x85"},
        {"number": b"\xc3\x28"},
        {"number": b"\xfe" + 6 * b"\xbf"},
        {"number": b"\xfd" + 5 * b"\xbf"},
    ],
    ids=["the first frame's", "other rate", "other bits", "no number", "no UTF-8", "36 bits", "31 bits"],
)
def test_audio_that_looks_like_a_frames_header_is_audio(
    channels: int, codes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples_SC = noisy(1.2, channels=channels)
    header = header_of(as_flac(samples_SC), **codes)
    header += bytes(len(header) % 2)
    at = len(samples_SC) - 300
    samples_SC[at : at + len(header) // 2, -1] = np.frombuffer(header, ">i2")
    data = as_flac(samples_SC)
    assert data.rindex(header) > len(data) - 5000
    with monkeypatch.context() as patch:
        if codes:
            # What a frame of this file cannot say needs no sum.
            patch.setattr(flac, "_crc16_sums", None)
        assert flac.flac_layout(io.BytesIO(data), 0) == Layout()
    for whole in (data, announcing(data, 0), data + COVER, data + data):
        info = proven_info(AudioBytes("x.flac", whole))
        assert info.samples == len(samples_SC) * (2 if whole == data + data else 1)
    with pytest.raises(AudioError, match="its header says 25000 samples, 16384 are there"):
        audio_info(AudioBytes("x.flac", announcing(data, 25000)[:-700]))


def test_what_is_joined_at_another_rate_is_not_passed_over() -> None:
    other = io.BytesIO()
    soundfile.write(other, np.zeros(100), 24000, format="FLAC")
    with pytest.raises(AudioError, match="joined from parts at 16000 and 24000 Hz"):
        audio_info(AudioBytes("x.flac", encoded(1.0) + other.getvalue()))


@pytest.mark.parametrize("rate_hz", [8000, 11025, 12345, 44100, 65530, 88200, 96000, 192000, 200000])
@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
def test_frames_of_every_rate_and_depth_are_known(
    rate_hz: int, subtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros((9000, 2)), rate_hz, format="FLAC", subtype=subtype)
    monkeypatch.setattr(flac, "_crc16_sums", None)
    assert flac.flac_layout(buffer, 0) == Layout()
