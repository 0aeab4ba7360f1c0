import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wavslm_core.data.corpora import Rejected, Utterance
from wavslm_core.data.token_store import TokenStore, shard_file, token_fingerprint
from wavslm_core.data.token_writer import ShardRecord, TokenWriter, plan_digest, plan_shards
from wavslm_core.errors import DataError

FINGERPRINT = token_fingerprint({"weights": "abc", "vocab_size": 1000}, {"corpus": "folder", "content": "1"})


def write_store(folder: Path, items: list[list[np.ndarray]], **changes: Any) -> TokenStore:
    options: dict[str, Any] = {
        "fingerprint": FINGERPRINT,
        "plan": "p",
        "shards": len(items),
        "vocab_size": 1000,
        "token_rate_hz": 50.0,
        "align": 1,
    }
    writer = TokenWriter(folder, **(options | changes))
    for number in writer.missing():
        names = [f"ä{number}/{i}.wav" for i in range(len(items[number]))]
        rejected = [Rejected(f"bad{number}", "is empty")]
        record = ShardRecord(names, [len(item) for item in items[number]], rejected, 2.0, 1.0)
        writer.write(number, items[number], record)
    return writer.finish(also_rejected=[Rejected("first", "is first")])


def random_items(shards: tuple[int, ...] = (3, 0, 5, 1), vocab_size: int = 1000) -> list[list[np.ndarray]]:
    random = np.random.default_rng(0)
    return [
        [random.integers(0, vocab_size, int(random.integers(1, 40))) for _ in range(count)]
        for count in shards
    ]


def test_gives_back_what_was_written(tmp_path: Path) -> None:
    items = random_items()
    store = write_store(tmp_path, items)
    flat = [item for shard in items for item in shard]
    stream = np.concatenate(flat)
    assert len(store) == 9
    assert store.total_tokens == len(stream)
    assert store.lengths.tolist() == [len(item) for item in flat]
    assert list(store.ids) == [f"ä{shard}/{i}.wav" for shard in range(4) for i in range(len(items[shard]))]
    assert store.ids[-1] == "ä3/0.wav"
    for index, item in enumerate(flat):
        assert store.tokens(index).dtype == np.int64
        np.testing.assert_array_equal(store.tokens(index), item)
    for offset in range(0, len(stream), 7):
        for length in (0, 1, 33, len(stream) - offset):
            if offset + length <= len(stream):
                np.testing.assert_array_equal(store.window(offset, length), stream[offset : offset + length])
    np.testing.assert_array_equal(store.counts(), np.bincount(stream, minlength=1000))
    lines = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["first", "bad0", "bad1", "bad2", "bad3"]


def test_reads_outside_the_stream_are_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path, random_items())
    for offset, length in ((-1, 3), (store.total_tokens, 1), (0, store.total_tokens + 1)):
        with pytest.raises(DataError, match="were asked for"):
            store.window(offset, length)
    with pytest.raises(IndexError):
        store.tokens(len(store))


@pytest.mark.parametrize(("vocab_size", "bytes_per_token"), [(1 << 16, 2), ((1 << 16) + 1, 4)])
def test_numbers_are_as_small_as_the_vocabulary_allows(
    tmp_path: Path, vocab_size: int, bytes_per_token: int
) -> None:
    top = np.array([0, vocab_size - 1])
    store = write_store(tmp_path, [[top]], vocab_size=vocab_size)
    assert (tmp_path / shard_file(0)).stat().st_size == 2 * bytes_per_token
    np.testing.assert_array_equal(store.tokens(0), top)


def test_tokens_outside_the_vocabulary_are_not_written(tmp_path: Path) -> None:
    for value in (-1, 1000):
        with pytest.raises(DataError, match="vocabulary has 1000"):
            write_store(tmp_path, [[np.array([5, value])]])
    assert not (tmp_path / shard_file(0)).exists()


def test_stale_stores_name_the_field(tmp_path: Path) -> None:
    write_store(tmp_path, random_items())
    assert TokenStore.open(tmp_path, expect=FINGERPRINT).vocab_size == 1000
    other = token_fingerprint({"weights": "xyz", "vocab_size": 1000}, {"corpus": "folder", "content": "1"})
    with pytest.raises(DataError, match=r'codec\.weights = "abc", now it is "xyz".*[Dd]elete'):
        TokenStore.open(tmp_path, expect=other)
    with pytest.raises(DataError, match=r"codec\.weights"):
        write_store(tmp_path, random_items(), fingerprint=other)
    with pytest.raises(DataError, match=r"shards\.plan"):
        write_store(tmp_path, random_items(), plan="q")


def test_damage_is_noticed_when_opening(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run the stage `tokenize` first"):
        TokenStore.open(tmp_path)
    write_store(tmp_path, random_items())
    whole = (tmp_path / shard_file(2)).read_bytes()
    (tmp_path / shard_file(2)).write_bytes(whole[:-2])
    with pytest.raises(DataError, match=rf"{shard_file(2)} is truncated or missing: {len(whole) - 2} bytes"):
        TokenStore.open(tmp_path)
    (tmp_path / shard_file(2)).write_bytes(whole)
    TokenStore.open(tmp_path)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        TokenStore.open(tmp_path)


def test_writing_continues_where_it_stopped(tmp_path: Path) -> None:
    items = random_items((2, 2, 2))
    options: dict[str, Any] = {
        "fingerprint": FINGERPRINT,
        "plan": "p",
        "shards": 3,
        "vocab_size": 1000,
        "token_rate_hz": 50.0,
        "align": 1,
    }
    first = TokenWriter(tmp_path, **options)
    first.write(1, items[1], ShardRecord(["a", "b"], [len(item) for item in items[1]], [], 1.0, 1.0))
    # A shard whose record is missing was interrupted: it is written again.
    (tmp_path / shard_file(0)).write_bytes(b"half")
    assert TokenWriter(tmp_path, **options).missing() == [0, 2]
    with pytest.raises(DataError, match="no finished token store"):
        TokenStore.open(tmp_path)
    store = write_store(tmp_path, items)
    stream = np.concatenate([item for shard in items for item in shard])
    np.testing.assert_array_equal(store.window(0, store.total_tokens), stream)
    assert list(store.ids)[2:4] == ["a", "b"]


def test_the_plan_covers_every_utterance_once() -> None:
    random = np.random.default_rng(0)
    utterances = [Utterance(f"u{i}", int(n), 16000) for i, n in enumerate(random.integers(100, 10**6, 200))]
    shards = plan_shards(utterances, shard_minutes=5)
    assert [index for shard in shards for index in shard] == list(range(200))
    for shard in shards[:-1]:
        minutes = [utterances[index].seconds / 60 for index in shard]
        assert sum(minutes) >= 5 > sum(minutes[:-1])
    changed = [*utterances[:-1], Utterance("u199", 5, 16000)]
    assert plan_digest(utterances, shards) != plan_digest(changed, plan_shards(changed, shard_minutes=5))
    assert plan_shards([], shard_minutes=5) == []


def test_many_shards_are_checked_when_they_are_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wavslm_core.data.token_store.CHECKED_SHARDS", 3)
    monkeypatch.setattr("wavslm_core.data.token_store.MAPPED_SHARDS", 2)
    items = [[np.arange(number, number + 5)] for number in range(20)]
    store = write_store(tmp_path, items)
    stream = np.concatenate([item for (item,) in items])
    for offset in (0, 37, 93, 12, 60):
        np.testing.assert_array_equal(store.window(offset, 7), stream[offset : offset + 7])
        assert len(store._shards) <= 2
    (tmp_path / shard_file(7)).write_bytes(b"x")
    store = TokenStore.open(tmp_path)
    store.window(0, 35)
    with pytest.raises(DataError, match=rf"{shard_file(7)} is truncated or missing: 1 bytes found, 10 exp"):
        store.window(0, 36)
    (tmp_path / shard_file(19)).write_bytes(b"x")
    with pytest.raises(DataError, match=shard_file(19)):
        TokenStore.open(tmp_path)
