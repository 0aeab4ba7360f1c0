from pathlib import Path

import pytest
import torch

from wavslm_core.data.audio import write_audio
from wavslm_core.data.folder import Folder
from wavslm_core.machine.processes import Processes
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run.context import StageContext


def test_files_in_no_split_are_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for place in ("train", "valid", "extra"):
        write_audio(tmp_path / "speech" / place / "a.wav", torch.rand(1600) - 0.5, 16000)
    recipe = resolve(
        recipe_from_dict(
            {"name": "one", "data": {"corpus": "folder", "path": str(tmp_path / "speech")}}, source="here"
        )
    )
    context = StageContext(recipe=recipe, run_dir=tmp_path / "runs" / "one")
    for split in ("train", "valid", "train"):
        context.split(split)
    assert caplog.text.count(f"1 file is in no split: 1 in {tmp_path / 'speech' / 'extra'}. Move them") == 1


def test_only_the_process_that_speaks_for_all_counts_what_is_in_no_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_audio(tmp_path / "speech" / "a.wav", torch.rand(1600) - 0.5, 16000)
    recipe = resolve(
        recipe_from_dict(
            {
                "name": "one",
                "data": {"corpus": "folder", "path": str(tmp_path / "speech"), "valid_fraction": 0},
            },
            source="here",
        )
    )
    counted: list[int] = []
    for rank in (1, 0):
        processes = Processes()
        processes.rank = rank
        monkeypatch.setattr(Folder, "outside_splits", lambda _, rank=rank: counted.append(rank) or {})
        context = StageContext(recipe=recipe, run_dir=tmp_path / "runs" / "one", processes=processes)
        assert len(context.split("train").utterances) == 1
    assert counted == [0]
