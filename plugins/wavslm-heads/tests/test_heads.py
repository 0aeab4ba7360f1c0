"""What holds for every head here, whatever it is made of."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from wavslm_core.model.sampling import TokenDraw
from wavslm_core.parts.configs import HeadConfig
from wavslm_core.parts.interfaces import Head, SamplingContext
from wavslm_core.parts.packing import packed_copy
from wavslm_core.parts.plugins import load_registry
from wavslm_heads.config import BitwiseConfig, ChunkAutoregressiveConfig, NextTokenConfig
from wavslm_samplers.config import TopPConfig
from wavslm_samplers.truncating import TopPSampler

D, V, C = 12, 8, 2
SIZES: dict[str, Any] = {"input_dim": D, "vocab_size": V}
INNER: dict[str, Any] = {**SIZES, "chunk_tokens": C, "dim": 16, "embedding_dim": 6, "bit_dim": 10}

CONFIGS: dict[str, HeadConfig] = {
    "next_token": NextTokenConfig(**SIZES),
    "gru": ChunkAutoregressiveConfig(**INNER, output="linear"),
    "two_gru_layers": ChunkAutoregressiveConfig(**INNER, layers=2, context_tokens=1, output="linear"),
    "transformer": ChunkAutoregressiveConfig(**INNER, inner="transformer", layers=2, num_heads=2),
    "tied": ChunkAutoregressiveConfig(**INNER, output="tied"),
    "bits_inside": ChunkAutoregressiveConfig(**INNER, output="bits", embedding="bits"),
    "single": ChunkAutoregressiveConfig(**{**INNER, "chunk_tokens": 1}),
    "long": ChunkAutoregressiveConfig(**{**INNER, "chunk_tokens": 5}, context_tokens=3),
    "bitwise": BitwiseConfig(**SIZES, chunk_tokens=C, bit_dim=10),
}
DEPENDENT = {"gru", "two_gru_layers", "transformer", "tied", "bits_inside", "long"}
"""Heads that model the tokens inside a chunk; in the others it is one token, or independent ones."""


class RecordingSampler(TopPSampler):
    """Samples from everything and keeps the logits."""

    def __init__(self) -> None:
        super().__init__(TopPConfig(p=1.0))
        self.seen: list[Tensor] = []

    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        self.seen.append(logits_NV)
        return logits_NV


@pytest.fixture(params=CONFIGS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def head(name: str) -> Head[Any]:
    return make(name)


def make(name: str) -> Head[Any]:
    torch.manual_seed(0)
    head = load_registry().build(CONFIGS[name])
    assert isinstance(head, Head)
    with torch.no_grad():
        # Away from the beginning, where biases are zero and distributions nearly flat.
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return head.eval()


def chunk_of(head: Head[Any]) -> int:
    return int(head.config.facts().chunk_tokens)


def inputs(rows: int, size: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = 2 * torch.randn(rows, size, D, generator=generator)
    return hidden, torch.randint(0, V, (rows, size), generator=generator)


def after(head: Head[Any], before: Tensor, hidden: Tensor, chunks: Tensor) -> Tensor:
    """Return log p of each chunk (N,C), given one chunk before (1,C) and its hidden states (1,C,D)."""
    count = len(chunks)
    tokens = torch.cat([before.expand(count, -1), chunks], dim=1)
    padded = torch.cat([hidden, torch.zeros_like(hidden)], dim=1).expand(count, -1, -1)
    return head.log_probs(padded, tokens)[:, before.shape[1] :].sum(dim=1)


def all_chunks(size: int) -> Tensor:
    return torch.cartesian_prod(*[torch.arange(V)] * size).view(-1, size)


def test_chunks_sum_to_one(head: Head[Any]) -> None:
    """Over every possible chunk, so the tokens' conditional distributions make one joint distribution."""
    chunk = chunk_of(head)
    hidden, before = inputs(1, chunk)
    log_probs = after(head, before, hidden, all_chunks(chunk)).double()
    assert log_probs.exp().sum().item() == pytest.approx(1, abs=1e-4)
    assert log_probs.max() - log_probs.min() > 1


def test_tokens_sum_to_one_at_every_place(head: Head[Any]) -> None:
    size = 3 * chunk_of(head)
    hidden, tokens = inputs(1, size)
    for place in range(chunk_of(head), size):
        rows = tokens.repeat(V, 1)
        rows[:, place] = torch.arange(V)
        total = head.log_probs(hidden.expand(V, -1, -1), rows)[:, place].exp().sum().item()
        assert total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "long"], indirect=True)
def test_proposals_are_as_frequent_as_log_probs_say(head: Head[Any]) -> None:
    chunk, draws = chunk_of(head), 4000
    hidden, before = inputs(1, chunk)
    draw = TokenDraw(RecordingSampler(), before.expand(draws, -1), seeds=range(draws))
    with torch.no_grad():
        proposed = head.propose(hidden.expand(draws, -1, -1), draw)
        expected = draws * after(head, before, hidden, all_chunks(chunk)).exp()
    codes = (proposed * V ** torch.arange(chunk - 1, -1, -1)).sum(dim=1)
    observed = torch.bincount(codes, minlength=V**chunk)
    # Rare outcomes are taken together, as the test needs about five of each.
    rare = expected < 5
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    observed = torch.cat([observed[~rare], observed[rare].sum()[None]])
    kept = expected > 0.5
    chi_square = ((observed - expected)[kept].square() / expected[kept]).sum().item()
    freedom = int(kept.sum()) - 1
    assert freedom > 3
    # 3.7 standard deviations above the mean of the chi-square distribution, with room for its skew.
    assert chi_square < freedom + 3.7 * (2 * freedom) ** 0.5 + 4, f"{chi_square:.1f} at {freedom}"


def test_what_is_drawn_from_is_what_is_scored(head: Head[Any]) -> None:
    """Exactly: the logits given to the sampler, at what was drawn, make up the chunk's log-probability."""
    chunk = chunk_of(head)
    hidden, before = inputs(3, chunk)
    sampler = RecordingSampler()
    with torch.no_grad():
        proposed = head.propose(hidden, TokenDraw(sampler, before, seeds=[1, 2, 3]))
        padded = torch.cat([hidden, torch.zeros_like(hidden)], dim=1)
        scored = head.log_probs(padded, torch.cat([before, proposed], dim=1))[:, chunk:].sum(dim=1)
    logs = [logits.log_softmax(-1).view(3, -1, logits.shape[-1]) for logits in sampler.seen]
    if head.config.facts().draws == "tokens":
        ids = proposed
    else:
        bits = (proposed[..., None] >> torch.arange(2, -1, -1)) & 1
        # One draw for each bit: of all tokens of the chunk at once, or token after token.
        ids = (bits.transpose(1, 2) if logs[0].shape[1] == chunk else bits).flatten(1)
    drawn = torch.cat(logs, dim=1).gather(-1, ids[..., None])[..., 0].sum(dim=1)
    assert torch.allclose(drawn, scored, atol=1e-4)


def test_rows_do_not_depend_on_their_batch_nor_on_padding(head: Head[Any]) -> None:
    chunk = chunk_of(head)
    sizes = [4 * chunk + 1, 2 * chunk, 3 * chunk]
    hidden, tokens = inputs(3, max(sizes))
    batch = head.log_probs(hidden, tokens, lengths=torch.tensor(sizes))
    for row, size in enumerate(sizes):
        alone = head.log_probs(hidden[row : row + 1, :size], tokens[row : row + 1, :size])[0]
        assert torch.allclose(batch[row, chunk:size], alone[chunk:], atol=1e-5)
        assert bool(batch[row, size:].isnan().all())
    draws = [TokenDraw(RecordingSampler(), tokens[:, :chunk], seeds=[4, 5, 6])]
    draws.append(TokenDraw(RecordingSampler(), tokens[1:2, :chunk], seeds=[5]))
    together = head.propose(hidden[:, :chunk], draws[0])
    assert torch.equal(together[1:2], head.propose(hidden[1:2, :chunk], draws[1]))


def test_any_length_is_the_beginning_of_a_longer_one(head: Head[Any]) -> None:
    chunk = chunk_of(head)
    hidden, tokens = inputs(2, 4 * chunk)
    whole = head.log_probs(hidden, tokens)
    assert bool(whole[:, :chunk].isnan().all())
    assert bool(whole[:, chunk:].isfinite().all())
    for size in range(1, 4 * chunk):
        part = head.log_probs(hidden[:, :size], tokens[:, :size])
        assert part.shape == (2, size)
        assert part.dtype == torch.float32
        assert torch.allclose(part, whole[:, :size], atol=1e-5, equal_nan=True)


def test_nothing_is_known_too_early(name: str, head: Head[Any]) -> None:
    chunk = chunk_of(head)
    hidden, tokens = inputs(1, 4 * chunk)
    plain = head.log_probs(hidden, tokens)[0]
    for place in range(4 * chunk):
        changed_tokens = tokens.clone()
        changed_tokens[0, place] = (tokens[0, place] + 3) % V
        by_token = changed(plain, head.log_probs(hidden, changed_tokens)[0])
        assert all(at >= place for at in by_token)
        last_of_chunk = place % chunk == chunk - 1
        if place >= chunk:
            assert place in by_token
            if name in DEPENDENT and not last_of_chunk:
                assert place + 1 in by_token
        changed_hidden = hidden.clone()
        changed_hidden[0, place] += 1
        by_hidden = changed(plain, head.log_probs(changed_hidden, tokens)[0])
        next_chunk = (place // chunk + 1) * chunk
        assert all(next_chunk <= at < next_chunk + chunk for at in by_hidden)
        assert (place + chunk in by_hidden) == (place < 3 * chunk)


def changed(one: Tensor, other: Tensor) -> list[int]:
    return (~torch.isclose(one, other, atol=1e-7, rtol=0, equal_nan=True)).nonzero().flatten().tolist()


def test_gradients_reach_every_parameter(head: Head[Any]) -> None:
    hidden, tokens = inputs(6, 5 * chunk_of(head))
    hidden.requires_grad_()
    (-head.log_probs(hidden, tokens)[:, chunk_of(head) :].mean()).backward()
    for key, parameter in head.named_parameters():
        assert parameter.grad is not None, key
        assert bool(parameter.grad.isfinite().all()), key
        assert parameter.grad.abs().max() > 0, key
    used = hidden.grad[:, : 4 * chunk_of(head)].abs().sum(dim=-1)
    assert bool((used > 0).all())


def test_packed_heads_give_the_same(head: Head[Any]) -> None:
    hidden, tokens = inputs(2, 3 * chunk_of(head))
    chunk = chunk_of(head)
    packed = packed_copy(head, weights="fp32")
    assert not any(type(part) is torch.nn.Linear for part in packed.modules())
    with torch.no_grad():
        plain = head.log_probs(hidden, tokens)
        assert torch.allclose(packed.log_probs(hidden, tokens), plain, atol=1e-4, equal_nan=True)
        proposals = [
            one.propose(hidden[:, :chunk], TokenDraw(RecordingSampler(), tokens[:, :chunk], seeds=[1, 2]))
            for one in (head, packed)
        ]
        coarse = packed_copy(head, weights="int8").log_probs(hidden, tokens)
    assert torch.equal(*proposals)
    assert (coarse - plain)[:, chunk:].abs().max() < 0.5


def test_half_precision_stays_close(head: Head[Any]) -> None:
    hidden, tokens = inputs(2, 3 * chunk_of(head))
    with torch.no_grad():
        plain = head.log_probs(hidden, tokens)[:, chunk_of(head) :]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = head.log_probs(hidden, tokens)
        half = head.to(torch.bfloat16).log_probs(hidden.to(torch.bfloat16), tokens)
    for result in (mixed, half):
        assert result.dtype == torch.float32
        assert (result[:, chunk_of(head) :] - plain).abs().max() < 0.5


def test_weights_are_saved_and_loaded(name: str, head: Head[Any], tmp_path: Path) -> None:
    save_file(head.state_dict(), tmp_path / "head.safetensors")
    other = load_registry().build(CONFIGS[name])
    assert isinstance(other, Head)
    other.load_state_dict(load_file(tmp_path / "head.safetensors"))
    hidden, tokens = inputs(2, 3 * chunk_of(head))
    assert torch.equal(
        head.log_probs(hidden, tokens).nan_to_num(), other.eval().log_probs(hidden, tokens).nan_to_num()
    )


def test_heads_are_registered() -> None:
    assert {"next_token", "chunk_autoregressive", "bitwise"} <= set(load_registry().names("head"))
