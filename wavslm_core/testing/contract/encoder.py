"""The contract of encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wavslm_core.parts.facts import EncoderFacts
from wavslm_core.testing.contract.flow import Flow, random_waveform
from wavslm_core.testing.contract.streaming_checks import FlowChecks


class EncoderContract(FlowChecks):
    @property
    def facts(self) -> EncoderFacts:
        facts = self.subject.facts()
        assert isinstance(facts, EncoderFacts)
        return facts

    def flows(self, part: Any) -> list[Flow]:
        facts = self.facts
        window = facts.window_frames
        return [
            Flow(
                name="forward",
                places="samples",
                make=random_waveform,
                whole=lambda x, lengths: part(x, lengths=lengths),
                init_state=part.init_state,
                step=part.step,
                lengths_out=part.frame_lengths,
                chunk_in=facts.chunk_frames * facts.hop_samples,
                chunk_out=facts.chunk_frames,
                frame_in=facts.hop_samples,
                window_chunks=None if window is None else -(-window // facts.chunk_frames),
            )
        ]

    def calls(self) -> Mapping[str, tuple[Tensor, ...]]:
        return {"forward": (random_waveform(2, 24 * self.facts.chunk_frames * self.facts.hop_samples, 3),)}

    @torch.no_grad()
    def test_shapes(self) -> None:
        part, hop = self.part(), self.facts.hop_samples
        for samples in (40 * hop, 40 * hop + 1, 41 * hop - 1, 24 * hop + hop // 2):
            features = part(random_waveform(2, samples, 0))
            expected = [2, int(part.frame_lengths(torch.tensor(samples))), self.facts.output_dim]
            self.require(
                list(features.shape) == expected and features.dtype == torch.float32,
                f"{samples} samples gave {list(features.shape)} {features.dtype}",
                f"features are (B, frame_lengths(S), output_dim) float32, here {expected}",
            )

    def test_frame_rate(self) -> None:
        part, hop = self.part(), self.facts.hop_samples
        lengths = torch.tensor([[1000 * hop, 500 * hop], [700 * hop + 1, 300 * hop - 1]])
        frames = part.frame_lengths(lengths)
        self.require(
            frames.shape == lengths.shape and frames.dtype == torch.int64,
            f"frame_lengths of {list(lengths.shape)} int64 gave {list(frames.shape)} {frames.dtype}",
            "frame_lengths maps any shape, int64",
        )
        self.require(
            int((frames - lengths // hop).abs().max()) <= 2,
            f"{lengths.tolist()} samples are {frames.tolist()} frames",
            f"a frame lasts hop_samples = {hop} samples, a few at the ends apart",
        )
        chunk = self.facts.chunk_frames
        whole = torch.arange(1, 5) * chunk
        self.require(
            not self.facts.streams or torch.equal(part.frame_lengths(whole * hop), whole),
            f"whole chunks of {chunk} frames become {part.frame_lengths(whole * hop).tolist()} frames",
            "in an encoder that streams, n chunks of samples give n chunks of frames",
        )
