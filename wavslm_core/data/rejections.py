"""What a token store, finished or not, says was left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wavslm_core.data.corpora import Rejected
from wavslm_core.data.token_store import MOST_BYTES, REJECTED_FILE, STORE_FILE, read_part
from wavslm_core.data.token_writer import PLAN_FILE, RECORDS, ShardRecord
from wavslm_core.errors import DataError
from wavslm_core.machine.json_files import read_lines

SCAN = "scan"
"""Where a file was found bad that no shard was planned for."""


def token_stores(place: Path) -> dict[str, Path]:
    """Return split → store for a run's folder, or one store by its own name. Raises: DataError."""
    if not place.exists():
        raise DataError(f"{place} does not exist; name a run's folder or a token store in it")
    stores = {place.name: place} if _is_store(place) else {}
    # Those of stages that are not the last of their kind stand in a folder of the stage.
    for pattern in () if stores else ("tokens/[!.]*", "tokenize*/tokens/[!.]*"):
        for folder in sorted(place.glob(pattern)):
            if _is_store(folder):
                stores[folder.relative_to(place).as_posix().removeprefix("tokens/")] = folder
    if not stores:
        raise DataError(
            f"{place} holds no token store; name a run's folder whose stage `tokenize` has begun, or a store"
        )
    return stores


def _is_store(folder: Path) -> bool:
    return (folder / STORE_FILE).exists() or (folder / PLAN_FILE).exists()


def stored_rejections(store: Path) -> Iterator[tuple[str, Rejected]]:
    """Yield (shard, what was left out of it); of an unfinished store what its finished shards say.

    Raises: DataError when the store is damaged.
    """
    in_shards = 0
    found: list[tuple[str, Rejected]] = []
    for path in sorted((store / RECORDS).glob("[!.]*.json")):
        for item in read_part(path, ShardRecord).rejected:
            found.append((path.stem, item))
            in_shards += 1
    lines = _lines(store)
    # The scan's come first; then those of the shards, in order.
    for item in lines[: len(lines) - in_shards]:
        yield SCAN, item
    yield from found


def _lines(store: Path) -> list[Rejected]:
    remedy = f"Delete {store} to tokenise again"
    try:
        return read_lines(store / REJECTED_FILE, Rejected, remedy=remedy, most_bytes=MOST_BYTES)
    except FileNotFoundError:
        return []
