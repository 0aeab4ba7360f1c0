"""The contract of encoders."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wavslm_core.parts.facts import EncoderFacts
from wavslm_core.parts.interfaces import LayeredEncoder
from wavslm_core.parts.lengths import zero_padding
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

    @torch.no_grad()
    def test_layers(self) -> None:
        """Layers can be had and learnt from, if the facts say that there are any."""
        part, layers = self.part(), self.facts.layers
        self.require(
            (layers is not None) == isinstance(part, LayeredEncoder),
            f"facts.layers is {layers} and the class is {type(part).__name__}",
            "a LayeredEncoder, and no other, says how many layers its features have passed",
        )
        if not isinstance(part, LayeredEncoder) or layers is None:
            return
        waveform_BS, lengths_B = random_waveform(2, 40 * self.facts.hop_samples, 0), torch.tensor([6, 40])
        lengths_B = lengths_B * self.facts.hop_samples
        frames_B = part.frame_lengths(lengths_B)
        states = part.hidden_states(waveform_BS, lengths=lengths_B)
        features_BTD = part(waveform_BS, lengths=lengths_B)
        self.require(
            torch.equal(zero_padding(states[layers], frames_B), zero_padding(features_BTD, frames_B)),
            f"hidden_states gave {len(states)} tensors, of which number {layers} is not what forward gave",
            "hidden_states gives the input of the first layer and what each layer gives, features among them",
        )
        twin = self.part()
        for weight in twin.parameters():
            weight.add_(1.0)
        twin.adopt(part)
        self.require(
            torch.equal(twin(waveform_BS, lengths=lengths_B), features_BTD),
            "a twin that adopted the weights gives other features",
            "adopt takes over all weights",
        )
        lower_BTD = part.lowest(layers - 1)(waveform_BS, lengths=lengths_B)
        self.require(
            torch.equal(zero_padding(lower_BTD, frames_B), zero_padding(states[layers - 1], frames_B)),
            f"lowest({layers - 1}) gives other features than layer {layers - 1}",
            "lowest gives an encoder that ends at a layer",
        )
        given_BTD = part.positional_input(waveform_BS, lengths=lengths_B)
        self.require(
            part.positional(given_BTD).shape == given_BTD.shape == states[0].shape
            and torch.equal(given_BTD, zero_padding(given_BTD, frames_B)),
            f"positional_input gave {list(given_BTD.shape)}, its states are {list(states[0].shape)}",
            "positional maps what positional_input gives, zero where padded, to the same shape",
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
