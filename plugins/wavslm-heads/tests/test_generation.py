"""Heads inside a language model: what is generated is what the scores of the whole sequence say."""

from typing import Any

import pytest
import torch

from wavslm_core import SpeechLM
from wavslm_core.parts.plugins import load_registry
from wavslm_core.testing.fakes import fake_codec, fake_speech_lm
from wavslm_heads.config import ChunkAutoregressiveConfig

SIZES: dict[str, Any] = {"input_dim": 16, "vocab_size": 32, "dim": 16, "embedding_dim": 8}


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("inner", ["gru", "transformer"])
@pytest.mark.parametrize("output", ["linear", "tied"])
def test_greedy_continuations_are_likeliest_token_by_token(chunk: int, inner: str, output: str) -> None:
    """Over several chunks, so that each is given the tokens of the one before, and in a batch."""
    torch.manual_seed(0)
    config = ChunkAutoregressiveConfig.model_validate(
        {**SIZES, "chunk_tokens": chunk, "inner": inner, "output": output}
    )
    head = load_registry().build(config)
    for parameter in head.parameters():
        parameter.data.mul_(2)
    fake = fake_speech_lm(fake_codec(bits=5))
    model = SpeechLM(fake.codec, fake.backbone, head, fake.sampler).eval()
    prompt = torch.randint(0, 32, (2, 8))
    new = model.generate(prompt, new_tokens=12, sampler={"name": "greedy"})
    assert len(new.unique()) > 2
    for row in range(2):
        whole = torch.cat([prompt[row], new[row]])
        for place in range(8, 20):
            others = whole.repeat(32, 1)
            others[:, place] = torch.arange(32)
            with torch.no_grad():
                scores = model.log_probs(others[:, : place + 1])[:, place]
            assert scores.argmax().item() == whole[place]
