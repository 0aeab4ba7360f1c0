"""The contract of decoders."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wavslm_core.parts.facts import DecoderFacts
from wavslm_core.testing.contract.flow import Flow, random_features
from wavslm_core.testing.contract.streaming_checks import FlowChecks


class DecoderContract(FlowChecks):
    @property
    def facts(self) -> DecoderFacts:
        facts = self.subject.facts()
        assert isinstance(facts, DecoderFacts)
        return facts

    def flows(self, part: Any) -> list[Flow]:
        facts = self.facts
        return [
            Flow(
                name="forward",
                places="frames",
                make=random_features(facts.input_dim),
                whole=lambda x, lengths: part(x, lengths=lengths),
                init_state=part.init_state,
                step=part.step,
                flush=part.flush,
                lengths_out=lambda lengths: lengths * facts.hop_samples,
                chunk_in=facts.chunk_frames,
                chunk_out=facts.chunk_frames * facts.hop_samples,
                delay=facts.delay_samples,
            )
        ]

    def calls(self) -> Mapping[str, tuple[Tensor, ...]]:
        return {"forward": (random_features(self.facts.input_dim)(2, 24 * self.facts.chunk_frames, 3),)}

    @torch.no_grad()
    def test_shapes(self) -> None:
        part = self.part()
        for frames in (1, 7, 40):
            waveform = part(random_features(self.facts.input_dim)(2, frames, 0))
            self.require(
                waveform.shape == (2, frames * self.facts.hop_samples) and waveform.dtype == torch.float32,
                f"{frames} frames gave {list(waveform.shape)} {waveform.dtype}",
                f"a waveform is (B, T · hop_samples = {frames * self.facts.hop_samples}) float32",
            )
            self.require(
                bool(waveform.isfinite().all()), f"{frames} frames gave NaN or infinity", "samples are finite"
            )
