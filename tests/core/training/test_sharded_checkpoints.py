"""Folders of shards: what they say of themselves is checked before it is believed; nothing is unpickled."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from wavslm_core.errors import CheckpointError
from wavslm_core.machine.processes import ALONE
from wavslm_core.training.checkpoints import Checkpoints
from wavslm_core.training.sharded_checkpoints import load_shards, read_about, read_sharded, write_sharded

WEIGHT = torch.arange(6.0).reshape(3, 2)


def content(step: int = 3) -> dict[str, Any]:
    return {
        "state": {"step": step},
        "modules": {"net": {"weight": WEIGHT, "tied": WEIGHT, "none": torch.zeros(0, 2)}},
        "optimizer": {
            "state": {0: {"step": torch.tensor(3.0), "exp_avg": WEIGHT / 8}},
            "param_groups": [{"params": [0], "lr": 0.1}],
        },
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "step-00000003.shards"
    write_sharded(folder, content(), processes=ALONE)
    return folder


def test_everything_comes_back(folder: Path) -> None:
    about = read_about(folder, processes=ALONE)
    assert about["state"] == {"step": 3}
    found = read_sharded(about)
    assert torch.equal(found["modules"]["net"]["weight"], WEIGHT)
    assert torch.equal(found["modules"]["net"]["tied"], WEIGHT)
    assert found["modules"]["net"]["none"].shape == (0, 2)
    assert found["optimizer"]["param_groups"] == content()["optimizer"]["param_groups"]
    assert torch.equal(found["optimizer"]["state"][0]["exp_avg"], WEIGHT / 8)
    assert found["optimizer"]["state"][0]["step"].item() == 3


def test_what_is_trained_is_filled_in_place(folder: Path) -> None:
    about = read_about(folder, processes=ALONE)
    state = {"weight": torch.zeros(3, 2), "tied": torch.zeros(3, 2), "none": torch.zeros(0, 2)}
    parameters = [nn.Parameter(torch.zeros(3, 2))]
    states, moments = load_shards(about, {"net": state}, parameters, processes=ALONE)
    assert states["net"]["weight"] is state["weight"]
    assert torch.equal(state["weight"], WEIGHT)
    assert torch.equal(moments[0]["exp_avg"], WEIGHT / 8)
    state["weight"] = torch.zeros(2, 2)
    with pytest.raises(CheckpointError, match=r"1 tensors are missing, .* such as modules/net/weight"):
        load_shards(about, {"net": state}, parameters, processes=ALONE)
    with pytest.raises(CheckpointError, match="2 tensors are missing"):
        load_shards(about, {"net": state | {"weight": WEIGHT}}, [], processes=ALONE)


def changed(document: Any, path: str, value: Any) -> Any:
    *parents, last = path.split("/")
    place = document
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key.replace("|", "/")]
    place[int(last) if isinstance(place, list) else last] = value
    return document


WEIGHT_AT = "tensors/modules|net|weight"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (f"{WEIGHT_AT}/shape", [10**12, 2], "it does not say where all of modules/net/weight is"),
        (f"{WEIGHT_AT}/shape", [3, 10**12], "it tells of more than its files can hold"),
        (f"{WEIGHT_AT}/shape", [3, -2], "greater than or equal to 0"),
        (f"{WEIGHT_AT}/dtype", "object", "dtype"),
        (f"{WEIGHT_AT}/pieces/0/file", "../../x.safetensors", "pattern"),
        (f"{WEIGHT_AT}/pieces/0/file", "shard-00007.safetensors", "it does not say where all of"),
        (f"{WEIGHT_AT}/pieces/0/rows", 2, "it does not say where all of"),
        ("files", {"/etc/passwd": [1, 1]}, "pattern"),
        ("format", 2, "format"),
        ("tensors", {"elsewhere": {"shape": [], "dtype": "bool", "pieces": []}}, "pattern"),
    ],
)
def test_an_index_that_cannot_be_true_is_refused(folder: Path, path: str, value: Any, said: str) -> None:
    index = folder / "index.json"
    index.write_text(json.dumps(changed(json.loads(index.read_text()), path, value)))
    with pytest.raises(CheckpointError, match=rf"{index} is damaged.*{re.escape(said)}"):
        read_about(folder, processes=ALONE)


def test_a_shard_that_holds_another_shape_than_the_index_says_is_refused(folder: Path) -> None:
    about = read_about(folder, processes=ALONE)
    index = folder / "index.json"
    index.write_text(json.dumps(changed(json.loads(index.read_text()), f"{WEIGHT_AT}/shape", [3, 1])))
    with pytest.raises(
        CheckpointError, match=r"shard-00000\.safetensors cannot be read: modules/net/weight is"
    ):
        read_sharded(about)


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickled_index_is_never_unpickled_and_its_folder_is_put_aside(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=3, sharded=True)
    checkpoints.save(3, content(3))
    old = checkpoints.folder / "step-00000007.shards"
    old.mkdir()
    (old / ".metadata").write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    (old / "about.pt").write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    problem = checkpoints._read(old)[1]
    assert "an earlier release wrote the folder, with a pickled index, which is not read any more" in problem
    latest = checkpoints.latest()
    assert latest is not None
    assert latest["state"]["step"] == 3
    # Even beside an index of ours.
    folder = checkpoints.path("step", 3)
    (folder / ".metadata").write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    read_sharded(read_about(folder, processes=ALONE))
    assert not (tmp_path / "ran").exists()
