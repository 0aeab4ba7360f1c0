"""The plan for thousands of hours, small: tars of long recordings, cut in pauses, tokenised as an array."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from made_corpora import RATE_HZ, encoded, write_tar

from wavslm_core.data.token_store import TokenStore
from wavslm_core.data.token_writer import stored_rejections
from wavslm_core.machine.processes import Share
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.model import ResolvedRecipe
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run.context import StageContext
from wavslm_core.stages.tokenize import Tokenize, TokenizeConfig
from wavslm_core.testing.fakes import fake_codec, register_fakes

pytestmark = pytest.mark.slow

TASKS, SPOKEN = 2, (1.2, 2.5, 0.9, 3.1)
TASK = (
    "import sys\nfrom pathlib import Path\n"
    "sys.path.insert(0, sys.argv[1])\nimport test_tokenising\n"
    "test_tokenising.tokenise(Path(sys.argv[2]), share=int(sys.argv[3]))\n"
)


def recipe(tars: Path) -> ResolvedRecipe:
    data = {
        "corpus": "webdataset",
        "train": f"{tars}/part-{{0..4}}.tar",
        "valid_fraction": 0,
        "cut": {"by": "voice_activity", "seconds": 3, "shortest_seconds": 0.3, "margin_seconds": 0.05},
    }
    return resolve(recipe_from_dict({"name": "test", "data": data}))


def tokenise(folder: Path, *, share: int | None = None) -> StageContext:
    """Do one task's share of the shards; without one do what is missing and put it together."""
    register_fakes()
    context = StageContext(
        recipe=recipe(folder / "tars"),
        run_dir=folder / "runs" / "a",
        stop_requested=lambda: False,
        stage_name="tokenize",
        share=Share() if share is None else Share(share, TASKS, partial=True),
    )
    config = TokenizeConfig(splits=("train",), batch_seconds=6.0, shard_minutes=0.1)
    Tokenize(config).run(context)
    return context


def long_recording(seed: int) -> np.ndarray:
    """Return bursts with half a second of near silence between them."""
    random = np.random.default_rng(seed)
    parts = []
    for seconds in random.permutation(SPOKEN):
        parts.append(1e-3 * random.standard_normal(RATE_HZ // 2))
        parts.append(0.1 * random.standard_normal(round(seconds * RATE_HZ)))
    return np.concatenate(parts).astype(np.float32)


def test_every_piece_is_tokenised_once(tmp_path: Path) -> None:
    for tar in range(5):
        members = {f"{number}.flac": encoded(long_recording(10 * tar + number)) for number in range(4)}
        write_tar(tmp_path / "tars" / f"part-{tar}.tar", members | {"bad.flac": b"no audio"})
    torch.manual_seed(0)
    fake_codec().save(tmp_path / "runs" / "a" / "codec")
    # All at once, as the tasks of an array start: one scans, the others wait.
    folder = Path(__file__).parent
    tasks = [
        subprocess.Popen([sys.executable, "-c", TASK, str(folder), str(tmp_path), str(share)])
        for share in range(TASKS)
    ]
    assert [task.wait(timeout=600) for task in tasks] == [0] * TASKS
    records = sorted((tmp_path / "runs" / "a" / "tokens" / "train" / "records").glob("*.json"))
    written = {path: path.stat().st_mtime_ns for path in records}
    context = tokenise(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in records} == written
    split, codec = context.split("train"), context.codec()
    store = TokenStore.open(context.place("tokens/train"))
    names = [utterance.id for utterance in split.utterances]
    assert len(records) > TASKS
    assert list(store.ids) == names
    assert len(set(names)) == len(names) >= 5 * 4 * 3
    for index in range(0, len(store), 7):
        alone = codec.encode(split.load(index, sample_rate_hz=codec.sample_rate_in)[None])[0].numpy()
        np.testing.assert_array_equal(store.tokens(index), alone[: len(alone) // 4 * 4])
    spoken = 5 * 4 * sum(SPOKEN)
    assert abs(store.seconds - spoken) < 0.15 * spoken
    left_out = [item.id for _, item in stored_rejections(store.folder)]
    assert left_out == [f"part-{tar}.tar/bad.flac" for tar in range(5)]
