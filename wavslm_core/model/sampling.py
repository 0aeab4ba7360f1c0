"""Drawing tokens: one stream of random numbers per row, so that a row's tokens never depend on its batch.

Drawing by inversion of the cumulative distribution makes a token a pure function of its own logits, its own
history and one uniform number.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wavslm_core.errors import CheckpointError, PluginError
from wavslm_core.model.chain import ChainConfig
from wavslm_core.parts.interfaces import Draw, Sampler, SamplingContext, State
from wavslm_core.parts.plugins import load_registry

NO_TOKEN = -1
"""What stands in a history before the first token."""
DAMAGED = (
    "its weights or its codec's are damaged or its training diverged. Load another checkpoint, or train it "
    "again with a lower rate"
)
"""Why a model gives NaN, and what to do."""


class RowRandom:
    """Uniform numbers for a batch; row r draws from its own generator, seeded with `seeds[r]`.

    Numbers are drawn on the CPU, so a seed gives the same continuation on every device.
    """

    def __init__(self, seeds: Sequence[int], *, device: torch.device) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._device = device

    def uniform(self, count: int) -> Tensor:
        """Return the next `count` numbers of each row, (B, count) float32 in [0, 1)."""
        rows = [torch.rand(count, generator=generator) for generator in self._generators]
        return torch.stack(rows).to(self._device)


def draw_ids(logits_NV: Tensor, uniform_N: Tensor) -> Tensor:
    """Draw one id a row from softmax(logits), (N,) int64, by inverting its cumulative distribution.

    V, which is no id, in rows that are no distribution.
    """
    cumulative_NV = logits_NV.softmax(dim=-1).cumsum(dim=-1)
    total_N1 = cumulative_NV[:, -1:]
    # Kept below the total, so that rounding never passes the last token that can be drawn.
    threshold_N1 = torch.minimum(
        uniform_N[:, None] * total_N1, total_N1.nextafter(torch.zeros_like(total_N1))
    )
    return torch.searchsorted(cumulative_NV, threshold_N1, right=True).squeeze(1)


class SamplerChain(Sampler):
    """Applies samplers one after the other; each sees as much history as it asks for."""

    def __init__(self, config: ChainConfig) -> None:
        super().__init__(config)
        self.steps: list[tuple[int, Sampler]] = [
            (step.facts().history_tokens, load_registry().build(step)) for step in config.steps
        ]

    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        held = context.history_NH.shape[1]
        for wanted, step in self.steps:
            history = context.history_NH[:, max(0, held - wanted) :]
            logits_NV = step.adjust(logits_NV, SamplingContext(context.positions_N, history))
        return logits_NV


class TokenDraw(Draw):
    """Draws for a batch of continuations: knows each row's last tokens and how many it has generated."""

    def __init__(self, sampler: Sampler, prompt_BT: Tensor, *, seeds: Sequence[int]) -> None:
        self.sampler = sampler
        self._random = RowRandom(seeds, device=prompt_BT.device)
        self._size = sampler.config.facts().history_tokens
        empty_BH = prompt_BT.new_full((prompt_BT.shape[0], self._size), NO_TOKEN)
        # As of the last whole chunk, and with what the head has drawn since.
        self._chunk_history_BH = self._history_BH = self._recent(empty_BH, prompt_BT)
        self._chunk_position = self._position = 0
        self._before_BT = prompt_BT

    @property
    def before_BT(self) -> Tensor:
        return self._before_BT

    def tokens(self, logits_BKV: Tensor) -> Tensor:
        tokens_BK = self._draw(logits_BKV, self.token_context(logits_BKV.shape[1]))
        self.take_note(tokens_BK)
        return tokens_BK

    def symbols(self, logits_BKV: Tensor) -> Tensor:
        return self._draw(logits_BKV, self.symbol_context(logits_BKV.shape[1]))

    def token_context(self, count: int) -> SamplingContext:
        """Return what a sampler is told of the next `count` tokens of each row."""
        positions_K = torch.arange(self._position, self._position + count, device=self._history_BH.device)
        return SamplingContext(
            positions_N=positions_K.repeat(len(self._history_BH)),
            history_NH=self._history_BH.repeat_interleave(count, dim=0),
        )

    def symbol_context(self, count: int) -> SamplingContext:
        """Return what a sampler is told of the next `count` symbols of each row."""
        rows = count * len(self._history_BH)
        return SamplingContext(
            positions_N=torch.full((rows,), self._position, device=self._history_BH.device),
            history_NH=self._history_BH.new_zeros(rows, 0),
        )

    def state(self) -> State:
        """Return a copy of what a chunk is drawn with: the chunk before (B,C), how many tokens were drawn (),
        and the history (B,H), if the sampler has any."""
        history = (self._chunk_history_BH.clone(),) if self._size else ()
        return (self._before_BT.clone(), torch.tensor(self._chunk_position), *history)

    def uniform(self, count: int) -> Tensor:
        """Return the numbers that the next `count` draws of each row are made with, (B, count)."""
        return self._random.uniform(count)

    def take_note(self, tokens_BK: Tensor) -> None:
        """Take note of tokens of a chunk that is not whole yet."""
        self._history_BH = self._recent(self._history_BH, tokens_BK)
        self._position += tokens_BK.shape[1]

    def end_chunk(self, tokens_BC: Tensor) -> None:
        """Take note of the chunk that the head proposed in the end, however it was drawn."""
        self._chunk_history_BH = self._history_BH = self._recent(self._chunk_history_BH, tokens_BC)
        self._position = self._chunk_position = self._chunk_position + tokens_BC.shape[1]
        self._before_BT = tokens_BC

    def read(self, tokens_BT: Tensor) -> None:
        """Take note of tokens between chunks that were not drawn; positions count those that were."""
        self._chunk_history_BH = self._history_BH = self._recent(self._chunk_history_BH, tokens_BT)
        self._before_BT = tokens_BT

    def _draw(self, logits_BKV: Tensor, context: SamplingContext) -> Tensor:
        uniform_BK = self.uniform(logits_BKV.shape[1])
        logits_NV = logits_BKV.flatten(0, 1).float()
        ids_N = draw_ids(self.sampler.adjust(logits_NV, context), uniform_BK.flatten())
        if int(ids_N.max()) >= logits_NV.shape[1]:
            raise nothing_to_draw(self.sampler, logits_NV)
        return ids_N.view_as(uniform_BK)

    def _recent(self, history_BH: Tensor, tokens_BT: Tensor) -> Tensor:
        if self._size == 0:
            return history_BH
        return torch.cat([history_BH, tokens_BT], dim=1)[:, -self._size :]


class JoinedDraw(Draw):
    """Draws of several rows, each of which has its own sampler, history and numbers, at once.

    What goes wrong with one row goes wrong with that one alone, or with those of its very sampler.
    """

    def __init__(self, draws: Sequence[TokenDraw]) -> None:
        self._draws = draws
        self._of_sampler: dict[int, list[int]] = {}
        for row, draw in enumerate(draws):
            self._of_sampler.setdefault(id(draw.sampler), []).append(row)
        self.failed: dict[int, Exception] = {}
        """Rows for which nothing could be drawn, and why; their tokens mean nothing."""

    @property
    def before_BT(self) -> Tensor:
        least = min(draw.before_BT.shape[1] for draw in self._draws)
        return torch.cat([draw.before_BT[:, -least:] for draw in self._draws])

    def tokens(self, logits_BKV: Tensor) -> Tensor:
        count = logits_BKV.shape[1]
        tokens_BK = self._draw(logits_BKV, [draw.token_context(count) for draw in self._draws])
        for draw, tokens_1K in zip(self._draws, tokens_BK.split(1), strict=True):
            draw.take_note(tokens_1K)
        return tokens_BK

    def symbols(self, logits_BKV: Tensor) -> Tensor:
        count = logits_BKV.shape[1]
        return self._draw(logits_BKV, [draw.symbol_context(count) for draw in self._draws])

    def _draw(self, logits_BKV: Tensor, contexts: Sequence[SamplingContext]) -> Tensor:
        _, count, size = logits_BKV.shape
        uniform_BK = torch.cat([draw.uniform(count) for draw in self._draws])
        logits_BKV = logits_BKV.float()
        groups = [*self._of_sampler.values()]
        # One for all is the rule, and needs no copy.
        adjusted_BKV = logits_BKV if len(groups) == 1 else logits_BKV.clone()
        for rows in groups:
            context = SamplingContext(
                positions_N=torch.cat([contexts[row].positions_N for row in rows]),
                history_NH=torch.cat([contexts[row].history_NH for row in rows]),
            )
            given_BKV = logits_BKV if len(groups) == 1 else logits_BKV[rows]
            try:
                adjusted_NV = self._draws[rows[0]].sampler.adjust(given_BKV.flatten(0, 1), context)
            except Exception as error:
                self.failed |= {row: error for row in rows if row not in self.failed}
                continue
            found_BKV = adjusted_NV.view_as(given_BKV)
            if len(groups) == 1:
                adjusted_BKV = found_BKV
            else:
                adjusted_BKV[rows] = found_BKV
        ids_BK = draw_ids(adjusted_BKV.flatten(0, 1), uniform_BK.flatten()).view_as(uniform_BK)
        if int(ids_BK.max()) >= size:
            for row in (ids_BK >= size).any(dim=1).nonzero().flatten().tolist():
                self.failed.setdefault(row, nothing_to_draw(self._draws[row].sampler, logits_BKV[row]))
            ids_BK = ids_BK.clamp(max=size - 1)
        return ids_BK


def nothing_to_draw(sampler: Sampler, logits_NV: Tensor) -> CheckpointError | PluginError:
    """Return why no token could be drawn from logits, as what a sampler left of them is no distribution."""
    if bool((logits_NV.isnan() | logits_NV.isposinf()).any()):
        return CheckpointError(f"the language model gives no number for what comes next: {DAMAGED}")
    return PluginError(
        f"{load_registry().described(sampler.config)} left no token to draw: at least one must "
        "keep a finite logit. Change its options, or use another sampler"
    )


def candidate_seeds(seeds: Sequence[int], candidates: int) -> list[int]:
    """Return `candidates` seeds for each given one, side by side; the first of each is the given one."""
    return [(seed + (candidate << 40)) % 2**63 for seed in seeds for candidate in range(candidates)]
