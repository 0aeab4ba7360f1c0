"""Heads and samplers that break their contract in one way each."""

import torch
from torch import Tensor

from wavslm_core.parts.interfaces import Draw, SamplingContext
from wavslm_core.parts.lengths import valid_mask
from wavslm_core.testing.fakes import FakeHead, FakeSampler


class Unnormalised(FakeHead):
    def log_probs(self, hidden_BTD: Tensor, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return super().log_probs(hidden_BTD, tokens_BT, lengths=lengths) - 0.1


class ScoresWithOwnChunk(FakeHead):
    """Scores with hidden states that have seen the token."""

    def log_probs(self, hidden_BTD: Tensor, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return super().log_probs(hidden_BTD.roll(-1, dims=1), tokens_BT, lengths=lengths)


class ScoresWithNextToken(FakeHead):
    """Scores a token by the one after it."""

    def log_probs(self, hidden_BTD: Tensor, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        scores_BT = super().log_probs(hidden_BTD, tokens_BT, lengths=lengths)
        same_BT = torch.zeros_like(scores_BT)
        same_BT[:, :-1] = (tokens_BT[:, :-1] == tokens_BT[:, 1:]).float()
        return scores_BT - 0.5 * same_BT


class ScoresFirstChunk(FakeHead):
    def log_probs(self, hidden_BTD: Tensor, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        scores_BT = super().log_probs(hidden_BTD, tokens_BT).nan_to_num()
        if lengths is None:
            return scores_BT
        return scores_BT.masked_fill(~valid_mask(lengths, scores_BT.shape[1]), torch.nan)


class ScoresPadding(FakeHead):
    def log_probs(self, hidden_BTD: Tensor, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return super().log_probs(hidden_BTD, tokens_BT)


class ProposesWarmer(FakeHead):
    def propose(self, hidden_BCD: Tensor, draw: Draw) -> Tensor:
        return draw.tokens(self.linear(hidden_BCD) / 1.5)


class ProposesCopies(FakeHead):
    """Each place by itself has its frequencies, but places are not independent."""

    def propose(self, hidden_BCD: Tensor, draw: Draw) -> Tensor:
        first_B1 = draw.tokens(self.linear(hidden_BCD[:, :1]))
        return first_B1.expand(-1, self.config.chunk_tokens).clone()


class DrawsByItself(FakeHead):
    def propose(self, hidden_BCD: Tensor, draw: Draw) -> Tensor:
        draw.tokens(self.linear(hidden_BCD))
        probabilities = self.linear(hidden_BCD).softmax(-1)
        return torch.multinomial(probabilities.flatten(0, 1), 1).view(hidden_BCD.shape[:2])


class ProposesOnCpu(FakeHead):
    def propose(self, hidden_BCD: Tensor, draw: Draw) -> Tensor:
        return super().propose(hidden_BCD, draw).cpu()


class KeepsTableOnCpu(FakeSampler):
    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        return logits_NV + torch.zeros(logits_NV.shape[-1])


class WatchesBatch(FakeSampler):
    """Scales by the largest logit of the batch."""

    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        return logits_NV / (1 + logits_NV.max().abs())


class WritesInput(FakeSampler):
    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        return logits_NV.mul_(0.5)


class DropsAll(FakeSampler):
    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        return logits_NV.masked_fill(logits_NV.softmax(-1) < 0.1, -torch.inf)


class BringsBack(FakeSampler):
    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        return logits_NV.clamp(min=-1000)


class HasChance(FakeSampler):
    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        return logits_NV + torch.rand_like(logits_NV)


class SecretlyGreedy(FakeSampler):
    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        best_N1 = logits_NV.argmax(-1, keepdim=True)
        return torch.full_like(logits_NV, -torch.inf).scatter(1, best_N1, 0.0)
