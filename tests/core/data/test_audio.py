import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from wavslm_core.data.audio import (
    load_torchaudio,
    read_audio,
    read_crop,
    resample,
    resampled_length,
    write_audio,
)
from wavslm_core.data.audio_files import audio_info, read_samples
from wavslm_core.errors import AudioError


def sine(seconds: float, rate_hz: int, hertz: float = 440.0) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(
        np.float32
    )


@pytest.mark.parametrize(
    ("suffix", "tolerance"), [(".wav", 1e-4), (".flac", 1e-4), (".ogg", 0.05), (".mp3", 0.05)]
)
def test_reads_every_format(tmp_path: Path, suffix: str, tolerance: float) -> None:
    path = tmp_path / f"x{suffix}"
    expected = sine(1.0, 16000)
    soundfile.write(path, expected, 16000)
    waveform = read_audio(path)
    assert waveform.dtype == torch.float32
    # Lossy formats blur the ends.
    np.testing.assert_allclose(waveform[2000:-2000], expected[2000:-2000], atol=tolerance)


def test_mixes_channels_down(tmp_path: Path) -> None:
    left, right = sine(0.5, 16000), sine(0.5, 16000, 1000.0)
    soundfile.write(tmp_path / "x.wav", np.stack([left, right], axis=1), 16000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "x.wav"), (left + right) / 2, atol=1e-6)


def test_reads_eight_bits_and_96_khz(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "8bit.wav", sine(0.5, 16000), 16000, subtype="PCM_U8")
    np.testing.assert_allclose(read_audio(tmp_path / "8bit.wav"), sine(0.5, 16000), atol=1 / 64)
    soundfile.write(tmp_path / "96k.wav", sine(0.5, 96000), 96000, subtype="PCM_24")
    waveform = read_audio(tmp_path / "96k.wav", sample_rate_hz=16000)
    assert len(waveform) == 8000
    np.testing.assert_allclose(waveform[200:-200], sine(0.5, 16000)[200:-200], atol=2e-3)


def bad_files(folder: Path) -> dict[str, str]:
    """Write one bad file of each kind; return name → what the message must say."""
    waveform = 0.1 * np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("certainly not audio " * 50)
    (folder / "text.flac").write_text("certainly not audio " * 50)
    soundfile.write(folder / "silent.wav", np.zeros(0, np.float32), 16000)
    for suffix in ("wav", "flac", "ogg", "mp3"):
        whole = folder / f"whole.{suffix}"
        soundfile.write(whole, waveform, 16000)
        content = whole.read_bytes()
        (folder / f"cut.{suffix}").write_bytes(content[: len(content) * 2 // 3])
        whole.unlink()
    for name, value in (("nan", np.nan), ("inf", np.inf), ("loud", 3e4)):
        damaged = waveform.copy()
        damaged[77] = value
        soundfile.write(folder / f"{name}.wav", damaged, 16000, subtype="FLOAT")
    (folder / "folder.wav").mkdir()
    return {
        "empty.wav": "is empty",
        "text.wav": "cannot be read as audio",
        "text.flac": "cannot be read as audio",
        "silent.wav": "holds no samples",
        "cut.wav": "cut off",
        "cut.flac": "cannot be read as audio|cut off",
        "cut.ogg": "cut off",
        "cut.mp3": "cut off",
        "nan.wav": "holds 1 NaN or infinite samples, the first at sample 77",
        "inf.wav": "NaN or infinite",
        "loud.wav": "within ±1",
        "missing.wav": "does not exist",
        "folder.wav": "is not a file",
    }


def test_bad_files_are_refused_in_one_line(tmp_path: Path) -> None:
    for name, message in bad_files(tmp_path).items():
        with pytest.raises(AudioError, match=message) as caught:
            read_audio(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)


def test_a_wav_of_unknown_length_is_not_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "piped.wav"
    soundfile.write(path, sine(0.5, 16000), 16000)
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert audio_info(path).samples == 8000


def test_reads_parts(tmp_path: Path) -> None:
    for suffix in ("wav", "flac"):
        path = tmp_path / f"x.{suffix}"
        soundfile.write(path, sine(1.0, 16000), 16000)
        whole, _ = read_samples(path)
        part, _ = read_samples(path, start=5000, samples=300)
        np.testing.assert_array_equal(part, whole[5000:5300])
        with pytest.raises(AudioError, match="16000 samples, but 2 from sample 15999"):
            read_samples(path, start=15999, samples=2)


@pytest.mark.parametrize("rate_hz", [8000, 16000, 22050, 44100, 48000])
def test_a_crop_equals_the_same_part_of_the_whole(tmp_path: Path, rate_hz: int) -> None:
    noise = 0.2 * np.random.default_rng(1).standard_normal(rate_hz * 2).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", noise, rate_hz)
    whole = read_audio(tmp_path / "x.wav", sample_rate_hz=16000)
    for start, samples in ((0, 1000), (12345, 4000), (len(whole) - 700, 700), (len(whole) - 10, 500)):
        crop = read_crop(
            tmp_path / "x.wav", start=start, samples=samples, sample_rate_hz=16000, own_rate_hz=rate_hz
        )
        torch.testing.assert_close(crop, whole[start : start + samples], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("from_hz", "to_hz"), [(22050, 16000), (44100, 24000), (11127, 16000), (16000, 11131)]
)
def test_resampling_keeps_a_tone_and_its_duration(from_hz: int, to_hz: int) -> None:
    resampled = resample(torch.from_numpy(sine(1.5, from_hz)), from_hz, to_hz)
    assert len(resampled) == resampled_length(round(1.5 * from_hz), from_hz, to_hz)
    expected = sine(1.6, to_hz)[: len(resampled)]
    np.testing.assert_allclose(resampled[500:-500], expected[500:-500], atol=5e-3)


def test_writes_and_reads_back(tmp_path: Path) -> None:
    waveform = torch.from_numpy(sine(0.25, 24000)).clone()
    waveform[10], waveform[11] = 1.7, -1.7
    for name in ("a/x.wav", "a/x.flac"):
        write_audio(tmp_path / name, waveform, 24000)
        torch.testing.assert_close(read_audio(tmp_path / name), waveform.clamp(-1, 1), atol=1 / 16384, rtol=0)
    assert sorted(item.name for item in (tmp_path / "a").iterdir()) == ["x.flac", "x.wav"]


@pytest.mark.parametrize(
    ("waveform", "name", "message"),
    [
        (torch.zeros(0), "x.wav", "shape"),
        (torch.zeros(2, 10), "x.wav", "shape"),
        (torch.tensor([0.0, float("nan")]), "x.wav", "NaN"),
        (torch.zeros(5), "x.mp3", r"allowed are \.wav and \.flac"),
    ],
)
def test_refuses_to_write(tmp_path: Path, waveform: torch.Tensor, name: str, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        write_audio(tmp_path / name, waveform, 16000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_torchaudio_loads_and_transformers_after_it() -> None:
    assert load_torchaudio().functional.resample is not None
    pytest.importorskip("transformers", reason="transformers is an optional oracle")
    program = (
        "from wavslm_core.data.audio import load_torchaudio; load_torchaudio();"
        "import torchaudio, torchaudio.transforms; from transformers import WavLMModel"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_resampling_is_exact_under_autocast() -> None:
    waveform_S = torch.sin(torch.arange(4410) / 7)
    expected = resample(waveform_S, 44100, 16000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(resample(waveform_S, 44100, 16000), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_type_of_float_is_resampled_and_kept(dtype: torch.dtype) -> None:
    waveform_BS = torch.from_numpy(sine(0.1, 8000))[None].to(dtype)
    exact = resample(waveform_BS.double(), 8000, 24000)
    found = resample(waveform_BS, 8000, 24000)
    assert found.dtype == dtype
    # Rounded once, at the end.
    assert torch.allclose(found.double(), exact, atol=1e-12 if dtype == torch.float64 else 4e-3)
    assert torch.allclose(resample(waveform_BS.float(), 8000, 24000).double(), exact, atol=1e-6)


def test_what_is_no_float_is_not_resampled() -> None:
    with pytest.raises(AudioError, match=r"must be floats in \[-1, 1\] to be resampled, got torch.int16"):
        resample(torch.zeros(8, dtype=torch.int16), 8000, 16000)
