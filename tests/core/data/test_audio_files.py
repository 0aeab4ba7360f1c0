import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.support import sound_bytes
from wavslm_core.data import audio_streams
from wavslm_core.data.audio import read_crop
from wavslm_core.data.audio_files import audio_info, proven_info, read_samples, sample_blocks
from wavslm_core.data.audio_source import AudioBytes
from wavslm_core.data.decoder import decoding
from wavslm_core.errors import AudioError

RATE_HZ = 16000


def noise(seconds: float = 2.0, rate_hz: int = RATE_HZ) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(round(seconds * rate_hz))).astype(np.float32)


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg"])
def test_channels_that_cancel_each_other_are_read_from_one(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    time_S = np.arange(2 * RATE_HZ) / RATE_HZ
    left = 0.3 * np.sin(2 * np.pi * 220 * time_S) * np.clip(2 * time_S - 1, 0, 1)
    path = tmp_path / f"antiphase.{kind}"
    soundfile.write(path, np.stack([left, -left], axis=1), RATE_HZ)
    info = proven_info(path)
    assert info.channel is not None
    assert "its channels cancel each other out" in caplog.text
    expected = soundfile.read(path, dtype="float32")[0][:, info.channel]
    whole, _ = read_samples(path)
    np.testing.assert_allclose(whole, expected, atol=1e-6)
    assert np.abs(whole).max() > 0.2
    # The same wherever it is read from, silence at the start or not.
    for start, samples in ((0, 4000), (7000, 3000), (20000, 5000)):
        crop = read_crop(
            path, start=start, samples=samples, sample_rate_hz=RATE_HZ, own_rate_hz=RATE_HZ, info=info
        )
        np.testing.assert_allclose(crop, whole[start : start + samples], atol=1e-6)
    blocks = np.concatenate(list(sample_blocks(path, samples=3000, info=info)))
    np.testing.assert_allclose(blocks, whole, atol=1e-6)


def test_other_channels_are_averaged_as_before(tmp_path: Path) -> None:
    one, other = noise(), np.roll(noise(), 5000)
    for name, right in (
        ("two voices", other),
        ("one is silent", 0 * one),
        ("quieter and turned", -0.4 * one),
    ):
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, np.stack([one, right], axis=1), RATE_HZ, subtype="FLOAT")
        assert audio_info(path).channel is None
        np.testing.assert_allclose(read_samples(path)[0], (one + right) / 2, atol=1e-6)
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros((8000, 2)), RATE_HZ)
    assert audio_info(silent).channel is None


@pytest.mark.parametrize(("kind", "subtype"), [("MP3", None), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_a_part_of_a_lossy_file_is_that_part_of_the_whole(kind: str, subtype: str | None) -> None:
    """Silence first, which an encoder spends no bits on: what comes after draws on many frames before it."""
    time_S = np.arange(5 * RATE_HZ) / RATE_HZ
    voice = 0.3 * np.sin(2 * np.pi * 220 * time_S) * np.clip(2 * time_S - 1, 0, 1)
    data = sound_bytes(voice, RATE_HZ, format=kind, subtype=subtype)
    source = AudioBytes("x", data)
    info = proven_info(source)
    whole, _ = read_samples(source)
    for start in (*range(0, len(whole) - 600, 7001), len(whole) - 600):
        part, _ = read_samples(source, start=start, samples=600, info=info)
        np.testing.assert_allclose(part, whole[start : start + 600], atol=1e-3)
    blocks = np.concatenate(list(sample_blocks(source, samples=3000, info=info)))
    np.testing.assert_allclose(blocks, whole, atol=1e-6)
    with decoding(source, None) as file:
        for start in (100, 900, 901, 30_000, 33_000, 10_000, len(whole) - 600, 20_000):
            file.go_to(start)
            np.testing.assert_allclose(file.read(600)[:, 0], whole[start : start + 600], atol=1e-6)


@pytest.mark.parametrize("seconds", [0.3, 1.0, 7.0, 21.0])
@pytest.mark.parametrize("rate_hz", [16000, 44100])
def test_a_part_near_the_end_of_a_vorbis_file_is_decoded_from_its_last_page_on(
    tmp_path: Path, seconds: float, rate_hz: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.ogg"
    soundfile.write(path, noise(seconds, rate_hz), rate_hz, subtype="VORBIS")
    info, whole = audio_info(path), read_samples(path)[0]
    decoded: list[int] = []
    read = soundfile.SoundFile.read

    def counted(file: soundfile.SoundFile, frames: int, *rest: Any, **options: Any) -> Any:
        decoded.append(frames)
        return read(file, frames, *rest, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    for start in range(max(0, len(whole) - 60_000), len(whole) - 400, 3989):
        for source in (path, AudioBytes("x.ogg", path.read_bytes())):
            part, _ = read_samples(source, start=start, samples=400, info=info)
            np.testing.assert_allclose(part, whole[start : start + 400], atol=1e-6)
    # Pages hold about a second.
    assert max(decoded) < 2 * rate_hz + (1 << 13)


def test_crops_of_a_joined_file_look_through_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "joined.mp3"
    data = sound_bytes(noise(1.0), RATE_HZ, format="MP3")
    looked: list[int] = []
    layout_of = audio_streams.layout_of
    monkeypatch.setattr(audio_streams, "layout_of", lambda file: looked.append(1) or layout_of(file))
    for times in (2, 3):
        path.write_bytes(times * data)
        info = audio_info(path)
        assert info.samples == times * RATE_HZ
        looked.clear()
        for start in (RATE_HZ + 500, RATE_HZ - 200, RATE_HZ + 9000):
            read_samples(path, start=start, samples=400, info=info)
        # One that has changed is another file.
        assert len(looked) == 1
    with pytest.raises(AudioError, match="has 48000 samples, but had 32000 when it was scanned"):
        read_samples(path, start=RATE_HZ + 500, samples=400, info=replace(info, samples=2 * RATE_HZ))


@pytest.mark.parametrize("kind", ["MP3", "OGG"])
def test_reading_on_decodes_nothing_twice(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = sound_bytes(noise(4.0), RATE_HZ, format=kind)
    source = AudioBytes("x", data)
    info = proven_info(source)
    sought: list[int] = []
    seek = soundfile.SoundFile.seek
    monkeypatch.setattr(
        soundfile.SoundFile, "seek", lambda file, frames: sought.append(frames) or seek(file, frames)
    )
    assert sum(map(len, sample_blocks(source, samples=3000, info=info))) == 4 * RATE_HZ
    assert sought == []


@pytest.mark.parametrize(
    "subtype", ["GSM610", "G721_32", "NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32", "MS_ADPCM", "IMA_ADPCM"]
)
def test_telephone_codings_are_read_although_they_cannot_seek(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(1.0), RATE_HZ, subtype=subtype)
    info = proven_info(path)
    assert abs(info.samples - RATE_HZ) < 1100
    whole, _ = read_samples(path)
    assert len(whole) == info.samples
    part, _ = read_samples(path, start=5000, samples=700, info=info)
    np.testing.assert_array_equal(part, whole[5000:5700])


@pytest.mark.parametrize(
    ("suffix", "kind", "subtype"),
    [
        ("opus", "OGG", "OPUS"),
        ("oga", "OGG", "VORBIS"),
        ("aiff", "AIFF", "PCM_16"),
        ("w64", "W64", "PCM_16"),
        ("caf", "CAF", "PCM_16"),
        ("au", "AU", "PCM_16"),
        ("sph", "NIST", "PCM_16"),
    ],
)
def test_other_containers_are_read(tmp_path: Path, suffix: str, kind: str, subtype: str) -> None:
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, noise(), RATE_HZ, format=kind, subtype=subtype)
    assert proven_info(path).samples == 2 * RATE_HZ


def test_what_cannot_be_read_is_called_by_its_format() -> None:
    with pytest.raises(AudioError, match=r"x\.m4a cannot be read.*\.m4a is none of the formats.*to FLAC"):
        audio_info(AudioBytes("x.m4a", b"\0\0\0\x20ftypM4A " + bytes(500)))


def test_blocks_are_whole_across_the_parts_of_a_joined_file() -> None:
    data = sound_bytes(noise(0.5), RATE_HZ, format="FLAC")
    source = AudioBytes("x.flac", data * 3)
    blocks = list(sample_blocks(source, samples=7000))
    assert [len(block) for block in blocks] == [7000, 7000, 7000, 3000]
    np.testing.assert_array_equal(np.concatenate(blocks), read_samples(source)[0])


def test_a_file_that_is_another_since_its_scan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, noise(), RATE_HZ)
    info = proven_info(path)
    soundfile.write(path, noise(1.0), RATE_HZ)
    with pytest.raises(AudioError, match="has 16000 samples, but had 32000 when it was scanned"):
        read_samples(path, info=info)
    soundfile.write(path, noise(3.0), 24000)
    with pytest.raises(AudioError, match="when it was scanned"):
        read_samples(path, info=info)


def test_damage_of_every_kind_is_one_clear_error_or_audio() -> None:
    """Bytes changed, cut out, put in: nothing but an `AudioError` may come of it."""
    random, refused = np.random.default_rng(0), 0
    for kind in ("WAV", "AIFF", "W64", "FLAC", "OGG", "MP3"):
        buffer = io.BytesIO()
        soundfile.write(buffer, noise(0.5), RATE_HZ, format=kind)
        for _ in range(25):
            data = bytearray(buffer.getvalue())
            for at in random.integers(0, min(len(data), int(random.choice([60, 10**9]))), 4):
                data[at] = int(random.integers(256))
            at, end = sorted(random.integers(0, len(data), 2))
            if random.random() < 0.5:
                del data[at:end]
            source = AudioBytes("x", bytes(data))
            try:
                info = proven_info(source)
                assert len(read_samples(source, info=info)[0]) == info.samples
            except AudioError:
                refused += 1
    assert 0 < refused < 150
