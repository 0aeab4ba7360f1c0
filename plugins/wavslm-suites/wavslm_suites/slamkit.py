"""SlamKit's layout of sWUGGY and sBLIMP: WAVs that are sorted by a number, in which neighbours are a pair."""

from collections.abc import Sequence
from pathlib import Path

from wavslm_core.plugin import DataError, Finding, Pair
from wavslm_suites.copies import SuiteCopy, audio_by_stem


def slamkit_copy(root: Path, folders: Sequence[str], *, splitter: str) -> SuiteCopy:
    """Return the pairs in sub-folders of the folders, each sub-folder's by itself.

    A file's number is what comes before `splitter`; sorted by it, the first, third, … are positives.
    Raises: DataError for files without one or with equal numbers, and for odd ones: which belong together is
    then not known.
    """
    copy = SuiteCopy()
    for name in folders:
        if not (root / name).is_dir():
            copy.findings.append(Finding("missing", f"{root / name}"))
            continue
        inside = sorted(path for path in (root / name).iterdir() if path.is_dir() and path.name[0] != ".")
        for folder in inside or [root / name]:
            _add(copy, root, folder, splitter)
    if not copy.pairs:
        raise DataError(f"{root} holds no audio in {', '.join(folders)}; copy it again")
    return copy


def _add(copy: SuiteCopy, root: Path, folder: Path, splitter: str) -> None:
    numbered: dict[int, Path] = {}
    for stem, path in audio_by_stem(folder, copy.findings).items():
        digits = stem.partition(splitter)[0]
        if not digits.isdecimal():
            raise DataError(f"{path} has no number before '{splitter}'; rename it or take it away")
        other = numbered.setdefault(int(digits), path)
        if other is not path:
            raise DataError(
                f"{other} and {path} have one number, so that which of them is right is not known; "
                "rename them"
            )
    if len(numbered) % 2:
        raise DataError(
            f"{folder} holds {len(numbered)} recordings, an odd number: neighbours are pairs, and which one "
            "has none is not known; copy it again"
        )
    order = sorted(numbered)
    for first, second in zip(order[::2], order[1::2], strict=True):
        names = [numbered[number].relative_to(root).with_suffix("").as_posix() for number in (first, second)]
        copy.sources.update(zip(names, (numbered[first], numbered[second]), strict=True))
        # Sub-folders are voices, as far as is known: then an item has the same number in each.
        item = f"{names[0].partition('/')[0]}/{first}"
        voice = {} if folder.parent == root else {"voice": folder.name}
        copy.pairs.append(Pair(names[0], names[0], names[1], item=item, groups=voice))
