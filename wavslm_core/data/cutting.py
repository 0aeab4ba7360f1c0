"""From a recording to its utterances, as a corpus's `cut:` block says."""

from __future__ import annotations

from wavslm_core.data.audio_files import AudioInfo, AudioSource
from wavslm_core.data.cut_config import CutConfig
from wavslm_core.data.voice_activity import cut_at_pauses, frame_levels
from wavslm_core.errors import AudioError


def pieces_of(source: AudioSource, info: AudioInfo, cut: CutConfig) -> tuple[tuple[int, int], ...]:
    """Return (start, samples) of a recording's utterances, in order, none overlapping.

    Raises: AudioError when there is none.
    """
    if cut.by == "fixed":
        pieces = fixed_pieces(info.samples, sample_rate_hz=info.sample_rate_hz, cut=cut)
    else:
        levels_N = frame_levels(source, info=info)
        pieces = cut_at_pauses(levels_N, samples=info.samples, sample_rate_hz=info.sample_rate_hz, cut=cut)
    if not pieces:
        seconds = info.samples / info.sample_rate_hz
        what = "is" if cut.by == "fixed" else "has no stretch of voice that is long enough: it is"
        raise AudioError(
            f"{source} {what} {seconds:.2f} s long, cut.shortest_seconds is {cut.shortest_seconds:g}"
        )
    return tuple(pieces)


def fixed_pieces(samples: int, *, sample_rate_hz: int, cut: CutConfig) -> list[tuple[int, int]]:
    """Return pieces of `cut.seconds`; the rest at the end is one too when it is long enough."""
    length = max(1, int(cut.seconds * sample_rate_hz))
    shortest = max(1.0, cut.shortest_seconds * sample_rate_hz)
    pieces = [(start, min(length, samples - start)) for start in range(0, samples, length)]
    return [piece for piece in pieces if piece[1] >= shortest]
