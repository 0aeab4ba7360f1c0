import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from wavslm_core.data.audio_files import audio_info
from wavslm_core.data.corpora import CutConfig
from wavslm_core.data.cutting import (
    cut_at_pauses,
    fixed_pieces,
    frame_levels,
    pieces_of,
    stretches_of_voice,
)
from wavslm_core.errors import AudioError

RATE_HZ = 16000
SHARED = Path(os.environ.get("WAVSLM_SHARED", Path(__file__).resolve().parents[3] / "../shared"))


def recording(*parts: tuple[str, float], noise: float = 1e-3) -> np.ndarray:
    """Return bursts of "voice" and pauses of the given seconds, over noise."""
    random = np.random.default_rng(0)
    pieces = [
        (0.2 if kind == "voice" else noise) * random.standard_normal(round(seconds * RATE_HZ))
        for kind, seconds in parts
    ]
    return np.concatenate(pieces).astype(np.float32)


def cut_pieces(path: Path, **options: Any) -> list[tuple[float, float]]:
    """Return (start, end) of the utterances in seconds."""
    cut = CutConfig(by="voice_activity", **options)
    info = audio_info(path)
    return [
        (start / info.sample_rate_hz, (start + samples) / info.sample_rate_hz)
        for start, samples in pieces_of(path, info, cut)
    ]


def test_stretches_of_voice_are_what_lies_between_pauses() -> None:
    waveform = recording(
        ("pause", 0.5), ("voice", 2), ("pause", 0.1), ("voice", 1), ("pause", 0.4), ("voice", 1)
    )
    found = stretches_of_voice(waveform, sample_rate_hz=RATE_HZ, pause_seconds=0.2)
    np.testing.assert_allclose(np.array(found) / RATE_HZ, [(0.5, 3.6), (4.0, 5.0)], atol=0.021)
    assert stretches_of_voice(waveform[:100], sample_rate_hz=RATE_HZ, pause_seconds=0.2) == []


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_pauses_are_where_it_is_cut(tmp_path: Path, suffix: str) -> None:
    waveform = recording(
        ("pause", 1), ("voice", 4), ("pause", 0.8), ("voice", 3), ("pause", 2), ("voice", 5), ("pause", 1)
    )
    soundfile.write(tmp_path / f"x.{suffix}", waveform, RATE_HZ)
    pieces = cut_pieces(tmp_path / f"x.{suffix}", seconds=6, margin_seconds=0.1)
    np.testing.assert_allclose(pieces, [(0.9, 5.1), (5.7, 8.9), (10.7, 15.9)], atol=0.05)
    together = cut_pieces(tmp_path / f"x.{suffix}", seconds=10, margin_seconds=0.1)
    np.testing.assert_allclose(together, [(0.9, 8.9), (10.7, 15.9)], atol=0.05)


def test_what_has_no_pause_is_cut_where_it_is_quietest(tmp_path: Path) -> None:
    waveform = recording(("voice", 14))
    waveform[int(4.5 * RATE_HZ) : int(4.6 * RATE_HZ)] *= 0.1
    waveform[int(8.5 * RATE_HZ) : int(8.6 * RATE_HZ)] *= 0.1
    soundfile.write(tmp_path / "x.wav", waveform, RATE_HZ)
    pieces = cut_pieces(tmp_path / "x.wav", seconds=6, margin_seconds=0.0)
    edges = [end for _, end in pieces]
    assert 4.5 <= edges[0] <= 4.62
    assert 8.5 <= edges[1] <= 8.62
    assert all(end - start <= 6 for start, end in pieces)
    assert sum(end - start for start, end in pieces) == pytest.approx(14, abs=0.05)


@pytest.mark.parametrize("seed", range(12))
def test_pieces_never_overlap_and_never_exceed_the_limit(seed: int) -> None:
    random = np.random.default_rng(seed)
    levels = np.repeat(random.choice([-20.0, -70.0], 400), random.integers(1, 60, 400)).astype(np.float32)
    levels += random.normal(0, 3, len(levels)).astype(np.float32)
    samples = len(levels) * 320 + int(random.integers(0, 320))
    cut = CutConfig(
        by="voice_activity",
        seconds=float(random.uniform(1, 20)),
        shortest_seconds=0.3,
        margin_seconds=float(random.uniform(0, 0.4)),
        pause_seconds=float(random.uniform(0.02, 0.5)),
    )
    pieces = cut_at_pauses(levels, samples=samples, sample_rate_hz=RATE_HZ, cut=cut)
    assert pieces
    before = 0
    for start, length in pieces:
        assert before <= start
        assert 0.3 * RATE_HZ <= length <= cut.seconds * RATE_HZ
        before = start + length
    assert before <= samples
    if cut.pause_seconds < 0.1:
        covered = np.zeros(samples, np.bool_)
        for start, length in pieces:
            covered[start : start + length] = True
        voice = np.repeat(levels > -45, 320)
        assert covered[: len(voice)][voice].mean() > 0.93


def test_silence_and_short_noises_are_left_out_with_a_reason(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", recording(("pause", 5), noise=1e-5), RATE_HZ)
    soundfile.write(tmp_path / "click.wav", recording(("pause", 5), ("voice", 0.3), ("pause", 5)), RATE_HZ)
    for name in ("silent.wav", "click.wav"):
        with pytest.raises(AudioError, match="no stretch of voice that is long enough"):
            cut_pieces(tmp_path / name)


def test_levels_are_those_of_the_whole_whatever_the_blocks(tmp_path: Path) -> None:
    waveform = 0.3 * np.random.default_rng(1).standard_normal(320 * 20000 + 100).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", waveform, RATE_HZ, subtype="FLOAT")
    levels = frame_levels(tmp_path / "x.wav", info=audio_info(tmp_path / "x.wav"))
    read = np.float64(waveform[: 320 * 20000].reshape(-1, 320))
    np.testing.assert_allclose(levels, 10 * np.log10((read**2).mean(axis=1)), atol=1e-3)


def test_fixed_pieces() -> None:
    cut = CutConfig(by="fixed", seconds=2, shortest_seconds=0.5)
    assert fixed_pieces(5 * RATE_HZ, sample_rate_hz=RATE_HZ, cut=cut) == [
        (0, 32000), (32000, 32000), (64000, 16000)
    ]  # fmt: skip
    assert fixed_pieces(32000 + 7999, sample_rate_hz=RATE_HZ, cut=cut) == [(0, 32000)]
    assert fixed_pieces(100, sample_rate_hz=RATE_HZ, cut=cut) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "silence"}, "fixed.*voice_activity"),
        ({"by": "fixed", "seconds": 0}, "seconds"),
        ({"by": "fixed", "seconds": 1, "shortest_seconds": 2}, "nothing would be kept"),
        ({"by": "voice_activity", "seconds": 1, "margin_seconds": 0.5}, "two margins"),
        ({"by": "fixed", "second": 3}, "second"),
    ],
)
def test_what_a_user_can_get_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CutConfig(**options)


def test_the_last_stretch_inside_a_margin_is_no_empty_piece() -> None:
    levels = np.full(60, -20, np.float32)
    levels[50:52] = -90
    cut = CutConfig(
        by="voice_activity", seconds=2, shortest_seconds=0, pause_seconds=0.04, margin_seconds=0.5
    )
    pieces = cut_at_pauses(levels, samples=60 * 320, sample_rate_hz=RATE_HZ, cut=cut)
    assert pieces == [(0, 60 * 320)]


def test_real_speech_is_cut_in_real_pauses() -> None:
    if not (SHARED / "speech" / "dev").is_dir():
        pytest.skip("no speech excerpts beside the repository (set WAVSLM_SHARED)")
    files = sorted((SHARED / "speech" / "dev").rglob("*.*"))[:8]
    for path in files:
        info = audio_info(path)
        levels = frame_levels(path, info=info)
        pieces = cut_pieces(path, seconds=8, shortest_seconds=0.5)
        seconds = info.samples / info.sample_rate_hz
        assert sum(end - start for start, end in pieces) > 0.7 * seconds
        for start, end in pieces:
            assert end - start <= 8
            # Both ends are quieter than what is between them.
            edges = [levels[int(start / 0.02)], levels[min(len(levels) - 1, int(end / 0.02))]]
            inside = levels[int(start / 0.02) : int(end / 0.02)]
            if end < seconds - 0.1:
                assert max(edges) < np.percentile(inside, 90)
