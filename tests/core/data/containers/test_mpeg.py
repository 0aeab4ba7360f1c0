import io

import numpy as np
import pytest
import soundfile

from tests.support import sound_bytes
from wavslm_core.data import audio_streams
from wavslm_core.data.audio_files import audio_info, proven_info, read_samples, sample_blocks
from wavslm_core.data.audio_source import AudioBytes
from wavslm_core.data.containers.mpeg import mpeg_layout
from wavslm_core.errors import AudioError


def encoded(seconds: float, rate_hz: int, *, channels: int = 1, mode: str = "VARIABLE") -> bytes:
    """Return an MP3 that is loud first and quiet then, so that its first frame says little of the others."""
    waveform = 0.2 * np.random.default_rng(0).standard_normal((round(seconds * rate_hz), channels))
    waveform[len(waveform) // 4 :] *= 0.003
    return sound_bytes(waveform, rate_hz, format="MP3", compression_level=0.5, bitrate_mode=mode)


def frames_of(data: bytes) -> tuple[int, int]:
    """Return where the audio behind the index starts, and how many frames it has, as the index says."""
    mark = max(data.find(b"Xing"), data.find(b"Info"))
    begin = data.find(b"\xff" + data[1:2], mark)
    while data[begin + 2] & 0x0C != data[2] & 0x0C:
        begin = data.find(b"\xff" + data[1:2], begin + 1)
    return begin, int.from_bytes(data[mark + 8 : mark + 12], "big")


def bare(data: bytes) -> bytes:
    return data[frames_of(data)[0] :]


@pytest.mark.parametrize(
    ("rate_hz", "channels", "mode"),
    [(16000, 1, "VARIABLE"), (44100, 2, "VARIABLE"), (44100, 1, "CONSTANT"), (8000, 1, "AVERAGE")],
)
def test_without_an_index_all_frames_are_read(rate_hz: int, channels: int, mode: str) -> None:
    data = encoded(4.0, rate_hz, channels=channels, mode=mode)
    _, frames = frames_of(data)
    samples = frames * (1152 if rate_hz >= 32000 else 576)
    source = AudioBytes("x.mp3", bare(data))
    info = proven_info(source)
    assert info.samples == samples
    assert abs(info.samples / rate_hz - 4.0) < 0.2
    whole, _ = read_samples(source)
    assert len(whole) == samples
    for known in (None, info):
        part, _ = read_samples(source, start=samples - 5000, samples=4000, info=known)
        np.testing.assert_allclose(part, whole[-5000:-1000], atol=1e-6)
    # What libsndfile sees by itself is the same audio.
    seen = soundfile.read(io.BytesIO(source.data), dtype="float32", always_2d=True)[0].mean(axis=1)
    both = min(len(seen), samples)
    np.testing.assert_allclose(whole[:both], seen[:both], atol=1e-6)


@pytest.mark.parametrize(
    "between", [b"", b"TAG" + bytes(125), b"ID3\x04\x00\x00\x00\x00\x01\x00" + b"\xff\xfb" * 64]
)
def test_joined_files_are_read_to_the_end_of_the_last(between: bytes) -> None:
    first, second = encoded(1.0, 16000), encoded(2.0, 16000)
    source = AudioBytes("x.mp3", first + between + second)
    info = proven_info(source)
    assert info.samples == 3 * 16000
    whole, _ = read_samples(source)
    expected = [soundfile.read(io.BytesIO(data), dtype="float32")[0] for data in (first, second)]
    np.testing.assert_allclose(whole, np.concatenate(expected), atol=1e-6)
    across, _ = read_samples(source, start=15000, samples=2000, info=info)
    np.testing.assert_allclose(across, whole[15000:17000], atol=1e-6)


def test_joined_files_without_index_and_the_same_file_twice() -> None:
    data = encoded(1.0, 16000)
    assert audio_info(AudioBytes("x.mp3", data + data)).samples == 2 * 16000
    _, frames = frames_of(data)
    assert audio_info(AudioBytes("x.mp3", bare(data) * 2)).samples == 2 * frames * 576
    assert audio_info(AudioBytes("x.mp3", data + bare(data))).samples == 16000 + frames * 576


def test_an_index_that_says_too_little_loses_nothing() -> None:
    data = encoded(2.0, 16000)
    mark, (_, frames) = data.find(b"Xing"), frames_of(data)
    lying = data[: mark + 8] + (frames // 2).to_bytes(4, "big") + data[mark + 12 :]
    assert audio_info(AudioBytes("x.mp3", lying)).samples == pytest.approx(2 * 16000, abs=4 * 576)


def test_a_file_that_was_cut_off_is_refused_with_what_is_there() -> None:
    data = encoded(2.0, 16000)
    begin, frames = frames_of(data)
    there = mpeg_layout(io.BytesIO(bare(data)[: (len(data) - begin) // 2]), 0).streams[0].samples
    assert there is not None
    half = data[: begin + (len(data) - begin) // 2]
    with pytest.raises(AudioError, match=f"its index says {frames} frames, {there // 576} are there"):
        audio_info(AudioBytes("x.mp3", half))


def damaged(data: bytes, *places: float) -> bytes:
    """Return an MP3 with broken headers of the frames at these parts of its length."""
    for place in places:
        at = data.index(data[frames_of(data)[0] :][:2], int(place * len(data)))
        data = data[:at] + b"\x00\x00" + data[at + 2 :]
    return data


@pytest.mark.parametrize("places", [(0.5,), (0.3, 0.6), (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)])
def test_damaged_headers_of_single_frames_do_not_make_a_file_cut_off(
    places: tuple[float, ...], caplog: pytest.LogCaptureFixture
) -> None:
    data = encoded(10.0, 44100, mode="CONSTANT")
    _, frames = frames_of(data)
    source = AudioBytes("x.mp3", damaged(data, *places))
    info = proven_info(source)
    assert f"its index says {frames} frames, {frames - len(places)} are there" in caplog.text
    whole, _ = read_samples(source, info=info)
    undamaged, _ = read_samples(AudioBytes("y.mp3", data))
    assert len(undamaged) - len(whole) == len(places) * 1152
    np.testing.assert_allclose(whole[:70000], undamaged[:70000], atol=1e-6)
    np.testing.assert_allclose(whole[-20000:], undamaged[-20000:], atol=1e-6)


def test_a_damaged_file_that_was_cut_off_is_refused_all_the_same() -> None:
    data = damaged(encoded(10.0, 44100, mode="CONSTANT"), 0.2)
    with pytest.raises(AudioError, match=r"x\.mp3 is cut off: its index says \d+ frames, \d+ are there"):
        audio_info(AudioBytes("x.mp3", data[: len(data) // 2]))
    # What comes behind a tag is another file.
    tag = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128)
    whole = encoded(10.0, 44100, mode="CONSTANT")
    half = frames_of(whole)[0] + mpeg_layout(io.BytesIO(bare(whole)[: len(whole) // 2]), 0).streams[0].end
    with pytest.raises(AudioError, match="is cut off"):
        audio_info(AudioBytes("x.mp3", whole[:half] + tag + bare(whole)))


def test_parts_at_different_rates_are_refused_by_name() -> None:
    with pytest.raises(AudioError, match=r"x\.mp3 is joined from parts at 16000 and 24000 Hz"):
        audio_info(AudioBytes("x.mp3", encoded(1.0, 16000) + encoded(1.0, 24000)))


def test_frames_are_found_across_blocks_of_reading() -> None:
    data = encoded(1.0, 16000) * 80
    assert len(data) > 1 << 18
    assert audio_info(AudioBytes("x.mp3", data)).samples == 80 * 16000


def test_any_part_of_a_damaged_file_is_that_of_the_whole() -> None:
    """Whoever reads it: all at once, block by block, or parts of it with what a scan found."""
    data = encoded(6.0, 44100, mode="CONSTANT")
    at = len(data) // 2
    source = AudioBytes("x.mp3", data[:at] + bytes(900) + data[at + 900 :])
    info = proven_info(source)
    whole, _ = read_samples(source)
    np.testing.assert_array_equal(np.concatenate(list(sample_blocks(source, samples=9999))), whole)
    np.testing.assert_array_equal(read_samples(source, info=info)[0], whole)
    for start in range(0, info.samples - 6000, 20011):
        part, _ = read_samples(source, start=start, samples=6000, info=info)
        np.testing.assert_allclose(part, whole[start : start + 6000], atol=1e-6)


def test_crops_of_a_file_without_an_index_cost_no_look_at_its_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    source = AudioBytes("x.mp3", bare(encoded(2.0, 16000, mode="CONSTANT")))
    info = proven_info(source)
    assert not info.mended
    monkeypatch.setattr(audio_streams, "layout_of", None)
    assert len(read_samples(source, start=9000, samples=500, info=info)[0]) == 500
