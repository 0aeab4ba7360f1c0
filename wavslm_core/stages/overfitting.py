"""Overfit one batch of a recipe: the quickest way to see whether its parts can learn at all.

Not a stage itself: it borrows models and batches from the recipe's training stages.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavslm_core.errors import RecipeError
from wavslm_core.run.context import StageContext
from wavslm_core.stages.train_codec import TrainCodec, TrainCodecConfig
from wavslm_core.stages.train_lm import TrainLm, TrainLmConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from wavslm_core.model.codec import Codec
    from wavslm_core.recipe.model import ResolvedRecipe
    from wavslm_core.training.config import TrainingConfig
    from wavslm_core.training.device import ChosenPrecision
    from wavslm_core.training.precision_proof import PrecisionProof
    from wavslm_core.training.task import Player

UTTERANCES = 4
SECONDS = 3.0
REMAINING = 0.8
"""What may be left of the first loss at most. A model that can learn falls below it within 60 steps; one that
cannot stays near 1."""


@dataclass(frozen=True)
class Overfitting:
    """What became of one batch."""

    what: str
    unit: str
    first: float
    last: float
    seconds: float
    proof: PrecisionProof
    """What bf16 does to the batch on this machine."""
    precision: ChosenPrecision
    """What the stage would train in."""

    @property
    def learns(self) -> bool:
        """False, too, when the loss became non-finite."""
        return self.last < REMAINING * self.first


def overfit(
    recipe: ResolvedRecipe, *, steps: int, runs_dir: Path, device: torch.device | None = None
) -> Iterator[Overfitting]:
    """Overfit one batch with every training stage of a recipe that is known to the core.

    Corpora are cached below `runs_dir`; nothing else is written. `device`: the CPU by default.
    Raises: RecipeError when no stage trains.
    """
    from wavslm_core.training.promises import players_of

    context = StageContext(recipe=recipe, run_dir=runs_dir / recipe.name)
    if device is not None:
        context.device = device
    codec: Codec | None = None
    found = False
    for config in recipe.stages:
        if isinstance(config, TrainCodecConfig):
            found = True
            # What others say of it is no loss to bring down.
            stage: TrainCodec = recipe.registry.build(config.model_copy(update={"adversarial": None}))
            codec = stage.build_model(context)
            task = stage.make_task(codec, context)
            # The first step through codes: what comes before is a warm-up.
            step = config.continuous_steps
            with closing(task):
                # Of several players the last one, whose loss is shown while training.
                player = players_of(task, config)[-1]
                loss = partial(_loss, player, max(step, player.starts_at_step))
                yield _descend("codec", "loss", task.parts, loss, config, steps)
        elif isinstance(config, TrainLmConfig):
            found = True
            codec = codec or _codec(context)
            yield _language_model(recipe.registry.build(config), codec, context, steps)
    if not found:
        raise RecipeError(
            f"recipe '{recipe.name}' has no stage train_codec or train_lm, so nothing to try. Add one"
        )


def _loss(player: Player, step: int) -> Tensor:
    return player.loss(step, 0).loss


def _codec(context: StageContext) -> Codec:
    """Return the recipe's checkpoint; random weights do as well, for tokens to learn by heart."""
    from wavslm_core.model.codec import Codec

    if context.recipe.codec is not None:
        return Codec.load(context.recipe.codec.checkpoint, device=context.device)
    return Codec.from_configs(context.recipe.part_configs).to(context.device)


def _language_model(stage: TrainLm, codec: Codec, context: StageContext, steps: int) -> Overfitting:
    from torch.nn.utils.rnn import pad_sequence

    codec.eval().requires_grad_(False)
    model = stage.build_model(context, codec=codec)
    split = context.split("train")
    waveforms = [
        split.load(index, sample_rate_hz=codec.sample_rate_in)[: round(SECONDS * codec.sample_rate_in)]
        for index in range(min(UTTERANCES, len(split.utterances)))
    ]
    lengths = [waveform.numel() for waveform in waveforms]
    checked = model.checked_tokens(*codec.tokens(pad_sequence(waveforms, batch_first=True), lengths=lengths))

    def bits() -> Tensor:
        log_probs_BT, predicted_BT = model.scored(*checked)
        return -log_probs_BT[predicted_BT].mean() / math.log(2)

    parts = {"backbone": model.backbone, "head": model.head}
    return _descend("LM", "bits per token", parts, bits, stage.config, steps)


def _descend(
    what: str,
    unit: str,
    parts: Mapping[str, nn.Module],
    loss: Callable[[], Any],
    config: TrainingConfig,
    steps: int,
) -> Overfitting:
    import torch

    from wavslm_core.machine.progress import progress_bar
    from wavslm_core.training.device import choose_precision
    from wavslm_core.training.precision_proof import prove

    began = time.monotonic()
    parameters = [p for part in parts.values() for p in part.parameters() if p.requires_grad]
    for part in parts.values():
        part.train(any(p.requires_grad for p in part.parameters()))
    device = parameters[0].device
    proof = prove(partial(_seeded, loss), parts, device=device)
    precision = choose_precision(config.precision, device, proofs=lambda: [proof])
    optimizer = torch.optim.AdamW(parameters, lr=config.lr)
    first = last = math.nan
    with progress_bar(f"overfit {what}", total=steps, unit="steps") as advance:
        for step in range(steps + 1):
            value = _seeded(loss)
            last = value.item()
            if step == 0:
                first = last
            if step < steps:
                optimizer.zero_grad()
                value.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                advance(1)
    return Overfitting(what, unit, first, last, time.monotonic() - began, proof, precision)


def _seeded(loss: Callable[[], Tensor]) -> Tensor:
    import torch

    torch.manual_seed(0)
    return loss()
