"""The contract of quantizers."""

from collections.abc import Mapping
from math import lcm, prod
from typing import Any

import torch
from torch import Tensor

from wavslm_core.parts.facts import QuantizerFacts
from wavslm_core.parts.interfaces import QuantizerOutput
from wavslm_core.testing.contract.flow import Flow, random_features, random_tokens
from wavslm_core.testing.contract.merging_checks import MergingChecks
from wavslm_core.testing.contract.module_checks import projected


class QuantizerContract(MergingChecks):
    @property
    def facts(self) -> QuantizerFacts:
        facts = self.subject.facts()
        assert isinstance(facts, QuantizerFacts)
        return facts

    @property
    def chunk_frames(self) -> int:
        return lcm(self.facts.chunk_frames, self.facts.frames_per_token)

    def tokens(self, frames: int) -> int:
        """Return how many tokens make that many frames."""
        return -(-frames // self.facts.frames_per_token) * self.facts.tokens_per_frame

    def features(self, batch: int, frames: int, seed: int = 0) -> Tensor:
        return random_features(self.facts.input_dim)(batch, frames, seed)

    def part(self, *, seed: int = 0) -> Any:
        """Return a quantizer that has seen one training batch, from which codebooks may start."""
        part = super().part(seed=seed)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            part.train()(self.features(4, 32 * self.chunk_frames, 11))
        return part.eval()

    def flows(self, part: Any) -> list[Flow]:
        facts, chunk = self.facts, self.chunk_frames
        encode = Flow(
            name="encode",
            places="frames",
            make=random_features(facts.input_dim),
            whole=lambda x, lengths: part.encode(x, lengths=lengths),
            init_state=part.init_encode_state,
            step=part.encode_step,
            lengths_out=part.token_lengths,
            chunk_in=chunk,
            chunk_out=self.tokens(chunk),
        )
        decode = Flow(
            name="decode",
            places="tokens",
            make=random_tokens(facts.vocab_size),
            whole=lambda x, lengths: part.decode(x, lengths=lengths),
            init_state=part.init_decode_state,
            step=part.decode_step,
            lengths_out=lambda lengths: lengths * facts.frames_per_token // facts.tokens_per_frame,
            chunk_in=self.tokens(chunk),
            chunk_out=chunk,
            frame_in=facts.tokens_per_frame,
        )
        return [encode, decode]

    def calls(self) -> Mapping[str, tuple[Tensor, ...]]:
        tokens = random_tokens(self.facts.vocab_size)(2, self.tokens(24 * self.chunk_frames), 3)
        return {"encode": (self.features(2, 24 * self.chunk_frames, 3),), "decode": (tokens,)}

    def training_loss(self, part: Any) -> Tensor:
        # As an encoder that is trained gives them; a codebook may have no weights of its own.
        output = part(self.features(4, 24 * self.chunk_frames, 3).requires_grad_())
        return projected(output.features_BTD) + sum(output.losses.values(), torch.zeros(()))

    @torch.no_grad()
    def test_tokens(self) -> None:
        part, vocab_size = self.part(), self.facts.vocab_size
        for frames in (1, 7, 40 * self.chunk_frames):
            tokens = part.encode(self.features(2, frames))
            self.require(
                tokens.shape == (2, self.tokens(frames)) and tokens.dtype == torch.int64,
                f"{frames} frames gave {list(tokens.shape)} {tokens.dtype}",
                f"tokens are (B, {self.tokens(frames)}) int64, as frames_per_token and tokens_per_frame say",
            )
            lengths = part.token_lengths(torch.tensor([[frames]]))
            self.require(
                lengths.tolist() == [[tokens.shape[1]]],
                f"token_lengths({frames}) is {lengths.tolist()}, encode gave {tokens.shape[1]}",
                "token_lengths says how many tokens encode gives",
            )
            low, high = int(tokens.min()), int(tokens.max())
            self.require(
                low >= 0 and high < vocab_size,
                f"encode gave tokens from {low} to {high}",
                f"tokens lie in 0…{vocab_size - 1}, as vocab_size says",
            )
            most = self.facts.ids_per_place or vocab_size
            for place in range(self.facts.tokens_per_frame):
                found = len(tokens[:, place :: self.facts.tokens_per_frame].unique())
                self.require(
                    found <= most,
                    f"place {place} of a frame has {found} different tokens",
                    f"at most {most} can stand there, as ids_per_place says",
                )
        self.require(
            len(tokens.unique()) > 1,
            "encode gave the same token for all of 80 chunks of noise",
            "tokens tell features apart; fit what is not trained by gradients in `prepare`",
        )

    def test_code_parts(self) -> None:
        parts, vocab_size = self.facts.digits, self.facts.vocab_size
        self.require(
            prod(parts) == vocab_size and min(parts) >= 2,
            f"its facts say {vocab_size} ids, but code_parts {self.facts.code_parts}",
            "every id is a number with these digits: their product is vocab_size, and each has two values",
        )

    @torch.no_grad()
    def test_features(self) -> None:
        part, facts = self.part(), self.facts
        for frames in (facts.frames_per_token, 6 * self.chunk_frames):
            tokens = random_tokens(facts.vocab_size)(2, self.tokens(frames), 0)
            features = part.decode(tokens)
            self.require(
                features.shape == (2, frames, facts.output_dim) and features.dtype == torch.float32,
                f"{tokens.shape[1]} tokens gave {list(features.shape)} {features.dtype}",
                f"features are (B, {frames}, output_dim = {facts.output_dim}) float32",
            )
        ends = torch.tensor([[0, facts.vocab_size - 1] * facts.tokens_per_frame])
        first, last = (
            part.decode(ends[:, :1].expand(-1, ends.shape[1])),
            part.decode(ends[:, 1:2].expand_as(ends)),
        )
        self.require(
            not torch.equal(first, last),
            f"tokens 0 and {facts.vocab_size - 1} decode to the same features",
            "every token of the codebook, from 0 to vocab_size − 1, decodes to features of its own",
        )

    @torch.no_grad()
    def test_forward_is_encode_and_decode(self) -> None:
        part = self.part()
        for frames in (12 * self.chunk_frames, 12 * self.chunk_frames + 1):
            features = self.features(2, frames)
            output = part(features)
            self.require(
                isinstance(output, QuantizerOutput),
                f"forward gave {type(output)}",
                "it gives QuantizerOutput",
            )
            tokens = part.encode(features)
            self.require_same(
                output.tokens_BT, tokens, "forward gave other tokens than encode", "both give the same tokens"
            )
            self.require_same(
                output.features_BTD,
                part.decode(tokens)[:, :frames],
                "forward gave other features than decode(encode(features))",
                "forward encodes and decodes, and gives as many frames as it was given",
            )
            self.require(
                set(output.losses) == set(self.facts.losses),
                f"forward gave the losses {sorted(output.losses)}, its facts say {sorted(self.facts.losses)}",
                "facts name every loss and its weight, so that recipes can be checked",
            )
            bad = [name for name, loss in output.losses.items() if loss.ndim or not bool(loss.isfinite())]
            self.require(not bad, f"its losses {', '.join(bad)} are not finite scalars", "losses are scalars")

    @torch.no_grad()
    def test_bypass_codes(self) -> None:
        part, features = self.part(), self.features(2, 12 * self.chunk_frames)
        rounded, continuous = part(features), part(features, bypass_codes=True)
        self.require(
            continuous.features_BTD.shape == rounded.features_BTD.shape
            and not torch.equal(continuous.features_BTD, rounded.features_BTD),
            "bypass_codes changes the shape of the features, or nothing",
            "with bypass_codes the features are not rounded to codes",
        )

    @torch.no_grad()
    def test_padding_leaves_training_alone(self) -> None:
        part, size = self.part(), 12 * self.chunk_frames
        length = size - self.chunk_frames - 1 if size > self.chunk_frames + 1 else size
        features = self.features(1, size)
        alone = part(features[:, :length])
        features[:, length:] *= 5
        padded = part(features, lengths=torch.tensor([length]))
        rule = "with `lengths`, padding changes neither valid results nor losses"
        self.require_same(
            padded.features_BTD[:, :length], alone.features_BTD, "forward differs when padded", rule
        )
        self.require(
            set(padded.losses) == set(alone.losses), f"padded it has the losses {set(padded.losses)}", rule
        )
        for name, loss in alone.losses.items():
            self.require_same(padded.losses[name], loss, f"its loss {name} differs when padded", rule)
