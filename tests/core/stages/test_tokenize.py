import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests.support import FAKES
from wavslm_core.data.token_store import TokenStore, token_fingerprint
from wavslm_core.errors import DataError
from wavslm_core.machine.processes import Interrupted
from wavslm_core.model.codec import Codec
from wavslm_core.recipe.loading import recipe_from_dict
from wavslm_core.recipe.resolving import resolve
from wavslm_core.run.context import StageContext
from wavslm_core.stages.tokenize import Tokenize, TokenizeConfig, _encode
from wavslm_core.testing.fakes import fake_codec, register_fakes

RATE_HZ = 16000


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Files of several lengths and rates, and bad ones among them."""
    random = np.random.default_rng(0)
    root = tmp_path / "speech"
    for split, count in (("train", 9), ("valid", 3)):
        (root / split).mkdir(parents=True)
        for number in range(count):
            rate_hz = (16000, 8000, 44100)[number % 3]
            noise = 0.1 * random.standard_normal(int(rate_hz * random.uniform(0.5, 2.0)))
            soundfile.write(root / split / f"{number}.wav", noise, rate_hz)
    bad = np.full(8000, np.nan, np.float32)
    soundfile.write(root / "train" / "1b-nan.wav", bad, RATE_HZ, subtype="FLOAT")
    soundfile.write(root / "train" / "2b-short.wav", np.zeros(300), RATE_HZ)
    (root / "train" / "3b-empty.wav").write_bytes(b"")
    return root


def context_for(
    run: Path, speech: Path, *, stop: Callable[[], bool] = lambda: False, seed: int = 0
) -> StageContext:
    if not (run / "codec").exists():
        torch.manual_seed(seed)
        fake_codec().save(run / "codec")
    recipe = resolve(recipe_from_dict({"name": "test", "data": {"corpus": "folder", "path": str(speech)}}))
    return StageContext(recipe=recipe, run_dir=run, stop_requested=stop, stage_name="tokenize")


def stage(**options: Any) -> Tokenize:
    return Tokenize(TokenizeConfig(**({"batch_seconds": 4.0, "shard_minutes": 0.05} | options)))


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a store; of what records time, only the rest."""
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
    document = json.loads(files["store.json"])
    del document["work_seconds"]
    return files | {"store.json": json.dumps(document).encode()}


def test_every_utterance_is_encoded_as_if_alone(tmp_path: Path, speech: Path) -> None:
    context = context_for(tmp_path / "runs" / "a", speech)
    stage().run(context)
    codec, split = context.codec(), context.split("train")
    store = TokenStore.open(context.place("tokens/train"))
    assert list(store.ids) == [f"train/{number}.wav" for number in range(9)]
    places = {utterance.id: index for index, utterance in enumerate(split.utterances)}
    for index, name in enumerate(store.ids):
        alone = codec.encode(split.load(places[name], sample_rate_hz=RATE_HZ)[None])[0].numpy()
        np.testing.assert_array_equal(store.tokens(index), alone[: len(alone) // 4 * 4])
    assert (store.lengths % 4 == 0).all()


def test_bad_files_are_listed_and_results_add_up(tmp_path: Path, speech: Path) -> None:
    context = context_for(tmp_path / "runs" / "a", speech)
    stage().run(context)
    lines = (context.place("tokens/train") / "rejected.jsonl").read_text().splitlines()
    reasons = {item["id"]: item["reason"] for item in map(json.loads, lines)}
    assert set(reasons) == {"train/1b-nan.wav", "train/2b-short.wav", "train/3b-empty.wav"}
    assert "NaN" in reasons["train/1b-nan.wav"]
    assert "too short" in reasons["train/2b-short.wav"]
    assert "is empty" in reasons["train/3b-empty.wav"]
    train = json.loads((context.run_dir / "results" / "tokenize.json").read_text())["splits"]["train"]
    store = TokenStore.open(context.place("tokens/train"))
    assert (train["utterances"], train["rejected"], train["tokens"]) == (9, 3, store.total_tokens)
    probabilities = np.bincount(store.window(0, store.total_tokens)) / store.total_tokens
    probabilities = probabilities[probabilities > 0]
    assert train["codebook_usage"] == len(probabilities) / 32
    assert train["entropy_bits"] == pytest.approx(-(probabilities * np.log2(probabilities)).sum())
    assert train["hours"] * 3600 * 50 == pytest.approx(train["tokens"], rel=0.05)


def test_the_result_does_not_depend_on_the_batch(tmp_path: Path, speech: Path) -> None:
    stores = []
    for name, seconds in (("a", 4.0), ("b", 0.1), ("c", 100.0)):
        context = context_for(tmp_path / "runs" / name, speech)
        stage(batch_seconds=seconds).run(context)
        stores.append(contents(context.place("tokens/train")))
    assert stores[0] == stores[1] == stores[2]


def test_an_interruption_costs_one_shard_and_changes_nothing(tmp_path: Path, speech: Path) -> None:
    whole = context_for(tmp_path / "runs" / "whole", speech)
    stage().run(whole)
    shards = len(list((whole.place("tokens/train")).glob("tokens-*.bin")))
    assert shards >= 3
    run = tmp_path / "runs" / "stopped"
    calls = 0

    def stop_at_the_sixth_batch() -> bool:
        nonlocal calls
        calls += 1
        return calls == 6

    with pytest.raises(Interrupted):
        stage(batch_seconds=0.1).run(context_for(run, speech, stop=stop_at_the_sixth_batch))
    finished = {path: path.stat().st_mtime_ns for path in (run / "tokens" / "train").glob("tokens-*.bin")}
    assert 0 < len(finished) < shards
    assert not (run / "results").exists()
    stage(batch_seconds=0.1).run(context_for(run, speech))
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    for split in ("train", "valid"):
        assert contents(run / "tokens" / split) == contents(whole.place(f"tokens/{split}"))


def test_a_store_of_another_codec_or_corpus_is_refused(tmp_path: Path, speech: Path) -> None:
    run = tmp_path / "runs" / "a"
    context = context_for(run, speech)
    stage().run(context)
    before = contents(context.place("tokens/train"))
    torch.manual_seed(1)
    fake_codec().save(run / "codec")
    with pytest.raises(DataError, match=r"stale.*codec\.encoder_weights"):
        stage().run(context)
    codec = Codec.load(run / "codec")
    corpus = context.split("train").corpus
    expected = token_fingerprint(codec.fingerprint(), corpus.fingerprint("train"))
    with pytest.raises(DataError, match=r"stale.*codec\.encoder_weights"):
        TokenStore.open(context.place("tokens/train"), expect=expected)
    torch.manual_seed(0)
    fake_codec().save(run / "codec")
    soundfile.write(speech / "train" / "new.wav", np.zeros(RATE_HZ), RATE_HZ)
    with pytest.raises(DataError, match=r"stale.*corpus\.files"):
        stage().run(context_for(run, speech))
    assert contents(context.place("tokens/train")) == before


def test_a_copied_corpus_is_the_same_one_when_times_were_kept(tmp_path: Path, speech: Path) -> None:
    run = tmp_path / "runs" / "a"
    stage().run(context_for(run, speech))
    kept = tmp_path / "kept"
    shutil.copytree(speech, kept, copy_function=shutil.copy2)
    stage().run(context_for(run, kept))
    os.utime(kept / "train" / "0.wav")
    with pytest.raises(DataError, match=r"stale.*corpus\.content.*times: `cp -a` and `rsync -a` keep those"):
        stage().run(context_for(run, kept))


def test_the_plan_knows_what_it_can(tmp_path: Path, speech: Path) -> None:
    register_fakes()
    codec = {role: FAKES[role] for role in ("encoder", "quantizer", "decoder")}
    recipe = resolve(
        recipe_from_dict({"name": "test", "data": {"corpus": "folder", "path": str(speech)}, **codec})
    )
    plan = stage().plan(recipe)
    assert (plan["tokens per second"], plan["bytes per token"]) == (50.0, 2)
    assert "scanned" in plan["train tokens"]


class OnGpu(torch.Tensor):
    """Numbers that, as those on a GPU, no numpy array can be made of before they are brought to the CPU."""

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    def cpu(self, *_: Any, **__: Any) -> torch.Tensor:
        return self.as_subclass(torch.Tensor)


@pytest.mark.parametrize("max_run", [1, 3])
def test_tokens_come_to_the_cpu_once_the_codec_is_done_with_them(
    monkeypatch: pytest.MonkeyPatch, max_run: int
) -> None:
    codec = fake_codec(max_run=max_run)
    waveforms = [0.1 * torch.randn(3200), 0.1 * torch.randn(1600)]
    expected = _encode(codec, waveforms)
    tokens = Codec.tokens

    def on_gpu(*given: Any, **named: Any) -> tuple[torch.Tensor, torch.Tensor]:
        tokens_BT, counts = tokens(*given, **named)
        return tokens_BT.as_subclass(OnGpu), counts.as_subclass(OnGpu)

    monkeypatch.setattr(Codec, "tokens", on_gpu)
    found = _encode(codec, waveforms)
    assert [tokens_T.tolist() for tokens_T in found] == [tokens_T.tolist() for tokens_T in expected]
    assert all(type(tokens_T) is np.ndarray for tokens_T in found)
