"""Training against discriminators: they learn to tell speech from an estimate of it, which learns to fool
them.

Hinge losses as in FocalCodec-Stream's decoder (arXiv 2509.16195) and SoundStream (arXiv 2107.03312). Those of
sub-discriminators are summed, so that a loss of discriminators that know nothing is 2 for each; distances of
what their layers give are averaged over layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.model.discriminators import Discriminators
from wavslm_core.model.documents import DISCRIMINATORS
from wavslm_core.run.context import StageContext
from wavslm_core.training.config import AdversarialConfig
from wavslm_core.training.task import LossOutput, Player

CHANCE = 2.0
"""Hinge loss of a discriminator that gives every waveform the score 0."""
WON = 0.05
"""A loss of each sub-discriminator up to which they have won: little is left to learn from them."""
ALIKE = 0.02
"""Scores that differ by less, at a loss no further below chance, tell nothing apart."""


class Adversary:
    """The discriminators of a task: a player, and two terms of the loss of the other.

    Waveforms that are judged are silent behind an item's end and as long in every call, a whole crop, so that
    what is said of an item does not hang on those beside it: shorter ones are padded to `samples`.
    """

    def __init__(self, config: AdversarialConfig, context: StageContext) -> None:
        """Raises: CheckpointError, RecipeError when those to start from cannot be read, or are others."""
        self.config = config
        self.context = context
        self.discriminators = _built(config, context).to(context.device)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What belongs to the task's `modules`."""
        return {DISCRIMINATORS: self.discriminators}

    @property
    def weights(self) -> dict[str, float]:
        """How much each of what `fool` returns counts in the loss."""
        return {"adversarial": self.config.weight, "feature_matching": self.config.feature_matching_weight}

    def player(self, loss: Callable[[int, int], LossOutput]) -> Player:
        """Return the player that trains the discriminators; it stands before the one that they judge.

        `loss`: step and micro-batch → what `judge` says of it.
        """
        return Player(
            DISCRIMINATORS,
            loss,
            self.modules,
            self.config,
            self.config.starts_at_step,
            reaches_all_weights=True,
            stuck=self._stuck,
            most_stuck_steps=self.config.collapse_steps,
        )

    def plays(self, step: int) -> bool:
        """Tell whether the terms of `fool` belong to the loss of a step."""
        return step >= self.config.starts_at_step

    def judge(self, target_BS: Tensor, estimate_BS: Tensor, *, samples: int) -> LossOutput:
        """Return the discriminators' loss: above 1 for speech, below -1 for what is made. A mean over items.

        No gradient goes through the waveforms.
        """
        pair = torch.cat([_padded(target_BS, samples), _padded(estimate_BS, samples)]).detach()
        halves = [judgement.scores_BN.float().chunk(2) for judgement in self.discriminators(pair)]
        real, fake = zip(*halves, strict=True)
        loss = _means(F.relu(1 - scores) for scores in real) + _means(F.relu(1 + scores) for scores in fake)
        metrics: dict[str, float | Tensor] = {
            "loss_of_each": loss.detach().mean(),
            "real_score": _means(real).detach().mean(),
            "fake_score": _means(fake).detach().mean(),
            "real_accuracy": _means((scores > 0).float() for scores in real).mean(),
            "fake_accuracy": _means((scores < 0).float() for scores in fake).mean(),
        }
        return LossOutput(loss.sum(), metrics, weight=len(target_BS))

    def fool(self, target_BS: Tensor, estimate_BS: Tensor, *, samples: int) -> dict[str, Tensor]:
        """Return the terms of the loss of whatever made the estimate, unweighted, as means over items."""
        with torch.no_grad():
            heard = self.discriminators(_padded(target_BS, samples))
        judged = self.discriminators(_padded(estimate_BS, samples))
        pairs = [
            pair
            for one, other in zip(judged, heard, strict=True)
            for pair in zip(one.maps, other.maps, strict=True)
        ]
        return {
            "adversarial": -_means(one.scores_BN.float() for one in judged).sum(),
            "feature_matching": _means((made.float() - real.float()).abs() for made, real in pairs).mean(),
        }

    def _stuck(self, numbers: Mapping[str, float]) -> str | None:
        """Return what to say of discriminators that won, or that tell nothing apart."""
        each = numbers["loss_of_each"]
        figures = (
            f"a hinge loss of {each:.3g} each ({CHANCE:g} is chance, 0 perfect), mean scores of "
            f"{numbers['real_score']:.3g} for speech and {numbers['fake_score']:.3g} for what is made"
        )
        if each <= WON:
            return (
                f"discriminators win, with {figures}: what they judge hardly learns from them. Halve their "
                f"`adversarial.lr`, which is {self.config.lr:g}, let them begin later (`starts_at_step`), or "
                "take narrower ones"
            )
        if each >= CHANCE - ALIKE and abs(numbers["real_score"] - numbers["fake_score"]) < ALIKE:
            return (
                f"discriminators tell nothing apart, with {figures}. Raise their `adversarial.lr`, which is "
                f"{self.config.lr:g}, take wider or other ones, or start from those that know more (`init`)"
            )
        return None

    def save(self) -> None:
        """Leave the discriminators in their place of the run."""
        self.discriminators.eval().save(self.context.place(DISCRIMINATORS))


def _means(values: Iterable[Tensor]) -> Tensor:
    """Return the mean of each, (D,)."""
    return torch.stack([value.mean() for value in values])


def _padded(waveform_BS: Tensor, samples: int) -> Tensor:
    return F.pad(waveform_BS, (0, samples - waveform_BS.shape[1]))


def _built(config: AdversarialConfig, context: StageContext) -> Discriminators:
    place = config.start_place
    if config.init is None and place is None:
        return Discriminators.from_configs(config.discriminators)
    folder = config.init if place is None else context.start(place)
    assert folder is not None
    return Discriminators.load(folder, wanted=config.discriminators)
