"""The head against plain definitions."""

import pytest
import torch

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


def test_the_state_dict_is_the_official_one(head: NextChunkHead) -> None:
    assert {key: list(value.shape) for key, value in head.state_dict().items()} == {"weight": [11, 8]}
