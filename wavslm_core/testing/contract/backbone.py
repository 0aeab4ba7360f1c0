"""The contract of backbones."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from wavslm_core.parts.facts import BackboneFacts
from wavslm_core.testing.contract.flow import Flow, random_features, random_tokens
from wavslm_core.testing.contract.streaming_checks import FlowChecks


class BackboneContract(FlowChecks):
    @property
    def facts(self) -> BackboneFacts:
        facts = self.subject.facts()
        assert isinstance(facts, BackboneFacts)
        return facts

    @property
    def make(self) -> Callable[[int, int, int], Tensor]:
        """Random input of the kind that the facts name."""
        if self.facts.input == "features":
            return random_features(self.facts.input_dim)
        config = self.subject.config
        links = {source: field for field, source in type(config).links().items()}
        self.require(
            "quantizer.vocab_size" in links,
            "it reads tokens, but no field is linked to quantizer.vocab_size",
            "a backbone with a table of tokens takes its size from the quantizer",
        )
        return random_tokens(getattr(config, links["quantizer.vocab_size"]))

    def flows(self, part: Any) -> list[Flow]:
        facts = self.facts
        window = facts.window_tokens
        return [
            Flow(
                name="forward",
                places="tokens",
                make=self.make,
                whole=lambda x, lengths: part(x, lengths=lengths),
                init_state=part.init_state,
                step=part.step,
                lengths_out=lambda lengths: lengths,
                chunk_in=facts.chunk_tokens,
                chunk_out=facts.chunk_tokens,
                window_chunks=None if window is None else -(-window // facts.chunk_tokens),
            )
        ]

    def calls(self) -> Mapping[str, tuple[Tensor, ...]]:
        return {"forward": (self.make(2, 24 * self.facts.chunk_tokens, 3),)}

    @torch.no_grad()
    def test_shapes(self) -> None:
        part = self.part()
        for tokens in (1, 7, 40):
            hidden = part(self.make(2, tokens, 0))
            self.require(
                hidden.shape == (2, tokens, self.facts.output_dim) and hidden.dtype == torch.float32,
                f"{tokens} tokens gave {list(hidden.shape)} {hidden.dtype}",
                f"hidden states are (B, T, output_dim = {self.facts.output_dim}) float32, one a token",
            )
