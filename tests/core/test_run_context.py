from __future__ import annotations

from pathlib import Path

import pytest

from wavslm_core.data.audio import write_audio
from wavslm_core.recipe import Recipe
from wavslm_core.run_context import StageContext


def test_files_in_no_split_are_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import torch

    for place in ("train", "valid", "extra"):
        write_audio(tmp_path / "speech" / place / "a.wav", torch.rand(1600) - 0.5, 16000)
    recipe = Recipe.from_dict(
        {"name": "one", "data": {"corpus": "folder", "path": str(tmp_path / "speech")}}, source="here"
    )
    context = StageContext(recipe=recipe, run_dir=tmp_path / "runs" / "one")
    for split in ("train", "valid", "train"):
        context.split(split)
    assert caplog.text.count(f"1 file is in no split: 1 in {tmp_path / 'speech' / 'extra'}. Move them") == 1
