"""The language model's task on a real token store: it learns structure, and nothing of it when shuffled."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wavslm_core.data.batches import Batching
from wavslm_core.data.token_store import TokenStore
from wavslm_core.data.token_writer import ShardRecord, TokenWriter
from wavslm_core.errors import DataError
from wavslm_core.training.lm_task import Control, LanguageModelTask, shuffled

VOCAB_SIZE = 32
BATCHING = Batching(micro_batch_size=4, accumulate=2, seed=5)


def make_store(folder: Path, lengths: list[int], *, seed: int) -> TokenStore:
    """Tokens that repeat what stood four places before, plus one, nine times in ten."""
    random = np.random.default_rng(seed)
    items = []
    for length in lengths:
        tokens = random.integers(0, VOCAB_SIZE, length)
        for place in range(4, length):
            if random.random() < 0.9:
                tokens[place] = (tokens[place - 4] + 1) % VOCAB_SIZE
        items.append(tokens.astype(np.int64))
    writer = TokenWriter(
        folder, fingerprint={}, plan="0", shards=1, vocab_size=VOCAB_SIZE, token_rate_hz=50.0, align=4
    )
    record = ShardRecord(
        ids=[f"utterance-{i}" for i in range(len(items))],
        lengths=lengths,
        rejected=[],
        audio_seconds=1.0,
        work_seconds=1.0,
    )
    writer.write(0, items, record)
    return writer.finish()


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[TokenStore, TokenStore]:
    folder = tmp_path_factory.mktemp("stores")
    lengths = np.random.default_rng(0).integers(2, 30, 60) * 4
    train = make_store(folder / "train", [4, *lengths.tolist()], seed=1)
    return train, make_store(folder / "valid", [40, 12, 8, 60, 4, 100], seed=2)


def make_task(
    stores: tuple[TokenStore, TokenStore],
    *,
    crop_tokens: int = 24,
    control: Control = "none",
    **batching: Any,
) -> LanguageModelTask:
    from wavslm_core.testing.fakes import fake_codec, fake_speech_lm

    torch.manual_seed(0)
    return LanguageModelTask(
        fake_speech_lm(fake_codec(bits=5), reads="embedding"),
        *stores,
        crop_tokens=crop_tokens,
        batching=replace(BATCHING, **batching),
        control=control,
    )


def train(task: LanguageModelTask, steps: int) -> None:
    optimizer = torch.optim.AdamW(
        [p for module in task.modules.values() for p in module.parameters()], lr=1e-2
    )
    for step in range(steps):
        torch.manual_seed(step)
        optimizer.zero_grad()
        task.loss(step, 0).loss.backward()
        optimizer.step()


@pytest.mark.slow
def test_learns_structure_unless_shuffled(stores: tuple[TokenStore, TokenStore]) -> None:
    learnt, control = make_task(stores), make_task(stores, control="shuffled_tokens")
    for task in (learnt, control):
        train(task, 150)
    with torch.no_grad():
        bits, control_bits = (task.validate()["bits_per_token"] for task in (learnt, control))
    assert bits < 3.5
    # Uniform tokens: nothing below log2(32) can be learnt from their frequencies.
    assert control_bits > 4.9


def test_crops_are_whole_chunks_of_one_utterance(stores: tuple[TokenStore, TokenStore]) -> None:
    task = make_task(stores)
    crops = [crop for step in range(200) for micro in range(2) for crop in task.crops(step, micro)]
    lengths = stores[0].lengths
    assert all(crop.start % 4 == 0 for crop in crops)
    assert all(crop.start + min(24, lengths[crop.utterance]) <= lengths[crop.utterance] for crop in crops)
    assert {crop.utterance for crop in crops} == set(range(1, 61)), "utterance 0 predicts nothing"
    assert any(crop.start == 0 for crop in crops)
    assert any(crop.start + 24 == lengths[crop.utterance] for crop in crops)


def test_accumulation_and_ranks_divide_the_same_batch(stores: tuple[TokenStore, TokenStore]) -> None:
    whole = make_task(stores, micro_batch_size=8, accumulate=1)
    parts = make_task(stores, micro_batch_size=4, accumulate=2)
    ranks = [make_task(stores, micro_batch_size=8, accumulate=1, rank=rank, world_size=2) for rank in (0, 1)]
    for step in range(3):
        utterances = [crop.utterance for crop in whole.crops(step, 0)]
        assert utterances == [crop.utterance for micro in (0, 1) for crop in parts.crops(step, micro)]
        assert utterances == [crop.utterance for task in ranks for crop in task.crops(step, 0)]


def test_loss_is_the_mean_over_what_is_predicted(stores: tuple[TokenStore, TokenStore]) -> None:
    task = make_task(stores)
    output = task.loss(3, 1)
    total, count = 0.0, 0
    for crop in task.crops(3, 1):
        tokens = torch.from_numpy(stores[0].tokens(crop.utterance)[crop.start : crop.start + 24])[None]
        log_probs = task.model.log_probs(tokens)
        total -= float(log_probs[0, 4:].sum().detach())
        count += tokens.shape[1] - 4
    assert float(output.loss.detach()) == pytest.approx(total / count, rel=1e-5)
    assert output.metrics["bits_per_token"] == pytest.approx(total / count / math.log(2), rel=1e-5)
    assert output.tokens == count + 4 * 4
    assert f"utterance-{task.crops(3, 1)[0].utterance}@" in output.description


def test_validation_equals_scoring_one_by_one(stores: tuple[TokenStore, TokenStore]) -> None:
    task = make_task(stores)
    with torch.no_grad():
        found = task.validate()
        rows = [torch.from_numpy(stores[1].tokens(i))[None] for i in range(6)]
        bits = [-task.model.log_probs(row)[0, 4:].double() / math.log(2) for row in rows if row.shape[1] > 4]
    assert found["bits_per_token"] == pytest.approx(float(torch.cat(bits).mean()), rel=1e-6)
    assert found["loss"] == pytest.approx(found["bits_per_token"] * math.log(2))
    for place in range(4):
        wanted = float(torch.cat([item[place::4] for item in bits]).mean())
        assert found[f"bits_at_{place + 1}"] == pytest.approx(wanted, rel=1e-6)
    assert found["gap_bits"] == pytest.approx(found["bits_per_token"] - found["train_bits_per_token"])


def test_tokens_are_looked_at_before_they_go_to_a_gpu_and_never_again(
    stores: tuple[TokenStore, TokenStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(stores)
    looks: list[str] = []
    aminmax = torch.Tensor.aminmax

    def noted(tensor: torch.Tensor) -> Any:
        looks.append(tensor.device.type)
        return aminmax(tensor)

    monkeypatch.setattr(torch.Tensor, "aminmax", noted)
    task.loss(0, 0)
    assert looks == ["cpu", "cpu"], "tokens and lengths"
    looks.clear()
    task.model.to("meta")
    tokens_BT, _ = task._padded([np.arange(8)])
    assert tokens_BT.device.type == "meta"
    assert looks == ["cpu", "cpu"]


def test_a_nan_out_of_the_model_is_not_hidden(stores: tuple[TokenStore, TokenStore]) -> None:
    task = make_task(stores)
    with torch.no_grad():
        next(task.model.head.parameters())[0, 0] = torch.nan
    assert torch.isnan(task.loss(0, 0).loss)


def test_the_codec_gets_no_gradient(stores: tuple[TokenStore, TokenStore]) -> None:
    from wavslm_core.testing.fakes import fake_codec, fake_speech_lm

    codec = fake_codec(bits=5)
    task = LanguageModelTask(fake_speech_lm(codec), *stores, crop_tokens=24, batching=BATCHING)
    task.loss(0, 0).loss.backward()
    assert all(parameter.grad is None for parameter in codec.parameters())
    grads = [p.grad for module in task.modules.values() for p in module.parameters()]
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads)


def test_shuffling_keeps_lengths_and_counts() -> None:
    rows = [np.arange(1, 7), np.arange(7, 10)]
    found = shuffled(rows, np.random.default_rng(0))
    assert [len(row) for row in found] == [6, 3]
    assert sorted(np.concatenate(found)) == list(range(1, 10))
    assert any(row.tolist() != original.tolist() for row, original in zip(found, rows, strict=True))


def test_shuffled_tokens_do_not_depend_on_the_number_of_processes(
    stores: tuple[TokenStore, TokenStore],
) -> None:
    def rows(rank: int, world_size: int) -> list[list[int]]:
        sizes = {"micro_batch_size": 8, "accumulate": 1, "rank": rank, "world_size": world_size}
        task = make_task(stores, control="shuffled_tokens", **sizes)
        return [row.tolist() for row in task._shuffled_rows(2, 0)]

    assert rows(0, 2) + rows(1, 2) == rows(0, 1)


@pytest.mark.parametrize("crop_tokens", [22, 4])
def test_crops_that_cannot_be_are_refused(stores: tuple[TokenStore, TokenStore], crop_tokens: int) -> None:
    with pytest.raises(DataError, match=f"crop_tokens is {crop_tokens}, .* multiple of 4 .* at least 8"):
        make_task(stores, crop_tokens=crop_tokens)


def test_utterances_that_are_too_short_are_refused(
    stores: tuple[TokenStore, TokenStore], tmp_path: Path
) -> None:
    short = make_store(tmp_path / "short", [4, 4], seed=0)
    with pytest.raises(DataError, match=r"no utterance in .*short is longer than one chunk of 4 tokens"):
        make_task((stores[0], short))
