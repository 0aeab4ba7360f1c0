import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from made_corpora import encoded, noise

from wavslm_core.errors import DataError, PluginError
from wavslm_corpora.config import HubConfig
from wavslm_corpora.hub import Hub

ROWS = {"train": 12, "validation": 4}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the hub's format: parquet files with the recordings in them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("dataset")
    (folder / "data").mkdir()
    for split, rows in ROWS.items():
        table = pa.table(
            {
                "audio": [
                    {"bytes": encoded(noise(0.3 + 0.1 * row, seed=row)), "path": f"{row}.flac"}
                    for row in range(rows)
                ],
                "who": [row // 3 for row in range(rows)],
                "sentence": [f"{split} {row}" for row in range(rows)],
            }
        )
        half = rows // 2
        pq.write_table(table.slice(0, half), folder / "data" / f"{split}-00000-of-00002.parquet")
        pq.write_table(table.slice(half), folder / "data" / f"{split}-00001-of-00002.parquet")
    return folder


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def open_hub(dataset: Path | str, cache: Path, **options: Any) -> Hub:
    return Hub(HubConfig(dataset=str(dataset), **options), cache_dir=cache)


def test_rows_are_utterances(dataset: Path, tmp_path: Path) -> None:
    options = {"valid": "validation", "speaker_column": "who", "text_column": "sentence"}
    corpus = open_hub(dataset, tmp_path, **options)
    train, valid = corpus.utterances("train"), corpus.utterances("valid")
    assert (len(train), len(valid)) == (12, 4)
    assert [item.id for item in train[:2]] == ["train/000000000", "train/000000001"]
    assert [item.speaker for item in train] == [str(row // 3) for row in range(12)]
    assert (train[7].text, valid[3].text) == ("train 7", "validation 3")
    for row in (11, 0, 5):
        waveform = corpus.load(train[row], sample_rate_hz=16000)
        expected = torch.from_numpy(noise(0.3 + 0.1 * row, seed=row))
        torch.testing.assert_close(waveform, expected, atol=1e-4, rtol=0)
    before = corpus.fingerprint("train")
    assert before["dataset"]
    assert open_hub(dataset, tmp_path, **options).fingerprint("train") == before


def test_a_fraction_is_kept_where_there_is_no_validation(dataset: Path, tmp_path: Path) -> None:
    corpus = open_hub(dataset, tmp_path, speaker_column="who", valid_fraction=0.4)
    train, valid = corpus.utterances("train"), corpus.utterances("valid")
    assert len(train) + len(valid) == 12
    assert {item.speaker for item in train}.isdisjoint(item.speaker for item in valid)
    with pytest.raises(DataError, match=r"no split 'test'.*data.test"):
        corpus.utterances("test")


def test_slices_and_cuts(dataset: Path, tmp_path: Path) -> None:
    cut = {"by": "fixed", "seconds": 0.2, "shortest_seconds": 0.1}
    corpus = open_hub(dataset, tmp_path, train="train[:2]", valid_fraction=0, cut=cut)
    assert [item.id for item in corpus.utterances("train")] == [
        "train/000000000@0", "train/000000000@3200", "train/000000001@0", "train/000000001@3200"
    ]  # fmt: skip


def test_rows_without_audio_are_left_out(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "set").mkdir()
    cells = [{"bytes": encoded(noise(0.3)), "path": None}, None, {"bytes": b"", "path": None}]
    pq.write_table(pa.table({"audio": cells}), tmp_path / "set" / "train.parquet")
    corpus = open_hub(tmp_path / "set", tmp_path / "cache", valid_fraction=0)
    assert len(corpus.utterances("train")) == 1
    reasons = [item.reason for item in corpus.rejected("train")]
    assert "holds no recording" in reasons[0]
    assert "is empty" in reasons[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": "trian"}, r"data.train: split 'trian' of dataset .* cannot be loaded"),
        ({"audio_column": "audi"}, "data.audio_column is 'audi'.*Did you mean 'audio'"),
        ({"speaker_column": "speaker"}, "has the columns audio, who, sentence"),
    ],
)
def test_what_a_recipe_can_get_wrong(
    dataset: Path, tmp_path: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        open_hub(dataset, tmp_path, **options).utterances("train")


def test_a_dataset_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"cannot be loaded: .*name a local folder"):
        open_hub("nobody/nothing", tmp_path).utterances("train")


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(PluginError, match=r"needs the package datasets.*pip install 'wavslm-corpora\[hub\]'"):
        open_hub("x", tmp_path).utterances("train")
