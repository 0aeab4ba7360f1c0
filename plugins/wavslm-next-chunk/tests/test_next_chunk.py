"""The head against plain definitions."""

import pytest
import torch

from wavslm_core.model.sampling import TokenDraw
from wavslm_core.testing.fake_configs import FakeSamplerConfig
from wavslm_core.testing.fakes import FakeSampler
from wavslm_next_chunk.config import NextChunkConfig
from wavslm_next_chunk.head import NextChunkHead


@pytest.fixture
def head() -> NextChunkHead:
    return NextChunkHead(NextChunkConfig(input_dim=8, vocab_size=11, chunk_tokens=3))


def test_log_probs_are_the_shifted_softmax(head: NextChunkHead) -> None:
    hidden, tokens = torch.randn(2, 10, 8), torch.randint(0, 11, (2, 10))
    log_probs = head.log_probs(hidden, tokens)
    table = head.logits(hidden).log_softmax(-1)
    assert bool(log_probs[:, :3].isnan().all())
    for row in range(2):
        for t in range(3, 10):
            assert torch.allclose(log_probs[row, t], table[row, t - 3, tokens[row, t]], atol=1e-6)


@pytest.mark.parametrize("size", [1, 3])
def test_a_first_chunk_alone_predicts_nothing(head: NextChunkHead, size: int) -> None:
    log_probs = head.log_probs(torch.randn(1, size, 8), torch.zeros(1, size, dtype=torch.int64))
    assert log_probs.shape == (1, size)
    assert bool(log_probs.isnan().all())


def test_probabilities_sum_to_one(head: NextChunkHead) -> None:
    hidden = torch.randn(1, 4, 8).expand(11, -1, -1)
    tokens = torch.zeros(11, 4, dtype=torch.int64)
    tokens[:, 3] = torch.arange(11)
    assert head.log_probs(hidden, tokens)[:, 3].exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_the_state_dict_is_the_official_one(head: NextChunkHead) -> None:
    assert {key: list(value.shape) for key, value in head.state_dict().items()} == {"weight": [11, 8]}


def test_proposals_do_not_depend_on_the_batch(head: NextChunkHead) -> None:
    hidden = torch.randn(3, 3, 8)
    sampler = FakeSampler(FakeSamplerConfig())
    prompt = torch.zeros(3, 3, dtype=torch.int64)
    batch = head.propose(hidden, TokenDraw(sampler, prompt, seeds=[4, 5, 6]))
    alone = head.propose(hidden[1:2], TokenDraw(sampler, prompt[1:2], seeds=[5]))
    assert torch.equal(batch[1:2], alone)
