"""The data of suites, looked at before any of it is scored: what is missing, unpaired, odd or there twice.

Every recording is read once: its digest tells whether it is still the same when an evaluation goes on, and
under it its tokens are kept. A suite with a fault is refused, or what is left of it is scored and called
partial in every table.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wavslm_core.data.audio_files import proven_info
from wavslm_core.data.audio_source import AudioBytes, AudioSource
from wavslm_core.data.suites import Finding, Pair, Suite
from wavslm_core.errors import AudioError, DataError
from wavslm_core.machine.processes import WHOLE, Processes, Share, divide
from wavslm_core.machine.progress import progress_bar

NAMED_FINDINGS = 5
"""Of each fault, in messages; results name more."""
PIECE = 64
"""Recordings that a process looks at before it asks whether to stop."""


@dataclass(frozen=True)
class Recording:
    """A recording of a suite."""

    digest: str
    """Of its bytes."""
    seconds: float


@dataclass(frozen=True)
class CheckedSuite:
    """A suite, and the pairs of it that can be scored."""

    label: str
    suite: Suite[Any]
    pairs: tuple[Pair, ...]
    recordings: Mapping[str, Recording]
    findings: tuple[Finding, ...]
    count: int
    """Pairs that can be scored; of those of other shares, who has them will know."""
    wanted: int | None = None
    """How many the published set has, where every copy should have that many."""
    remark: str = ""

    @property
    def is_partial(self) -> bool:
        return bool(self.findings) or self.wanted not in (None, self.count)

    @property
    def faults(self) -> Counter[str]:
        """How often each fault was found."""
        return Counter(finding.fault for finding in self.findings)

    def digest(self) -> str:
        """Return 16 hex digits of what is scored: recordings and how they are paired."""
        digest = hashlib.sha256()
        for pair in self.pairs:
            both = [self.recordings[name].digest for name in (pair.positive, pair.negative)]
            digest.update(repr((pair.id, both, pair.split_s)).encode())
        return digest.hexdigest()[:16]

    def described(self) -> str:
        """Return in words what makes it partial."""
        counted = ", ".join(f"{count} {fault}" for fault, count in sorted(self.faults.items()))
        of = "" if self.wanted is None else f" of {self.wanted:,}"
        return f"{self.count:,}{of} pairs" + (f" ({counted})" if counted else "")


def check_suites(
    suites: Mapping[str, Suite[Any]],
    *,
    allow_partial: bool,
    share: Share = WHOLE,
    processes: Processes,
    stop_requested: Callable[[], bool] = lambda: False,
) -> list[CheckedSuite]:
    """Read suites, label → suite, and look at all their recordings; those of other shares are left out.

    Raises: DataError for what is missing, odd, unpaired, double or wrongly named unless `allow_partial`, and
    where nothing is left; Interrupted.
    """
    lists = {label: suite.read() for label, suite in suites.items()}
    own = {label: tuple(found.pairs[share.index :: share.count]) for label, found in lists.items()}
    names = [
        (label, name)
        for label, pairs in own.items()
        for name in dict.fromkeys(name for pair in pairs for name in (pair.positive, pair.negative))
    ]
    pieces = [names[start : start + PIECE] for start in range(0, len(names), PIECE)]
    with progress_bar("check", total=len(names) / processes.world_size, unit="files") as advance:

        def look(piece: list[tuple[str, str]]) -> list[Recording | str]:
            advance(len(piece))
            return [_looked_at(suites[label].source(name)) for label, name in piece]

        looked = [
            found
            for several in divide(processes, pieces, look, stop_requested=stop_requested)
            for found in several
        ]
    known = dict(zip(names, looked, strict=True))
    checked = []
    for label, suite in suites.items():
        mine = {name: found for (of, name), found in known.items() if of == label}
        kept, findings = _without_faults(own[label], mine)
        checked.append(
            CheckedSuite(
                label=label,
                suite=suite,
                pairs=kept,
                recordings={name: found for name, found in mine.items() if isinstance(found, Recording)},
                findings=(*lists[label].findings, *findings),
                count=len(lists[label].pairs) - (len(own[label]) - len(kept)),
                wanted=lists[label].published_pairs,
                remark=lists[label].remark,
            )
        )
    _refuse_faults(checked, allow_partial=allow_partial)
    return checked


def _looked_at(source: AudioSource) -> Recording | str:
    """Return a recording, or why it cannot be read."""
    try:
        data = source.data if isinstance(source, AudioBytes) else source.read_bytes()
        info = proven_info(AudioBytes(str(source), data))
    except OSError as error:
        return f"{source}: {error.strerror}"
    except AudioError as error:
        return str(error)
    return Recording(hashlib.sha256(data).hexdigest()[:32], info.samples / info.sample_rate_hz)


def _without_faults(
    pairs: Sequence[Pair], recordings: Mapping[str, Recording | str]
) -> tuple[tuple[Pair, ...], list[Finding]]:
    """Return the pairs that can be scored, and what is wrong with the recordings of the others."""
    findings = [Finding("unreadable", found) for found in recordings.values() if isinstance(found, str)]
    kept = []
    for pair in pairs:
        positive, negative = recordings[pair.positive], recordings[pair.negative]
        if isinstance(positive, str) or isinstance(negative, str):
            continue
        sides = (positive, negative)
        if positive.digest == negative.digest:
            what = f"{pair.positive} and {pair.negative} are the same recording"
            findings.append(Finding("duplicate", what))
        elif pair.split_s is not None and any(
            split >= side.seconds for split, side in zip(pair.split_s, sides, strict=True)
        ):
            what = f"pair {pair.id} splits at {pair.split_s} s, after its recordings have ended"
            findings.append(Finding("unpaired", what))
        else:
            kept.append(pair)
    return tuple(kept), findings


def _refuse_faults(checked: Sequence[CheckedSuite], *, allow_partial: bool) -> None:
    lines = []
    for suite in checked:
        if not suite.count:
            lines.append(f"{suite.label} has no pair that can be scored.{_named(suite)} Copy it again")
        elif suite.is_partial and not allow_partial:
            lines.append(
                f"{suite.label} is not whole: {suite.described()}.{_named(suite)} Copy it again, or score "
                "what is there with --allow-partial (`allow_partial: true`), which every table then says"
            )
    if lines:
        raise DataError("\n".join(lines))


def _named(suite: CheckedSuite) -> str:
    """Return the first findings of each fault."""
    pieces = []
    for fault, count in sorted(suite.faults.items()):
        first = [finding.what for finding in suite.findings if finding.fault == fault][:NAMED_FINDINGS]
        more = f"; and {count - len(first)} more" if count > len(first) else ""
        pieces.append(f" {fault.capitalize()}: {'; '.join(first)}{more}.")
    return "".join(pieces)
