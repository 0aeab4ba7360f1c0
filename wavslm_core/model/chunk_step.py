"""A language model's whole step for a chunk as one module: random numbers and state in, tokens and state out.

Nothing in it looks at a value, so that it is one graph for all positions of a stream and all numbers: what
engines run and exports write. Shapes: B rows, C tokens of a chunk, K uniform numbers of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from wavslm_core.data.arguments import first_floats
from wavslm_core.model.sampling import NO_TOKEN, TokenDraw
from wavslm_core.parts.facts import HeadFacts
from wavslm_core.parts.interfaces import Backbone, Draw, Head, Quantizer, Sampler, SamplingContext, State
from wavslm_core.parts.streaming import join_states, new_position, stream_mode


class TracedDraw(Draw):
    """Draws with given uniform numbers (B,K), without looking at any value; none: only counts them."""

    def __init__(
        self,
        sampler: Sampler,
        before_BT: Tensor,
        uniforms_BK: Tensor | None,
        position: Tensor,
        history: State,
    ) -> None:
        self._sampler, self._before_BT = sampler, before_BT
        self._uniforms_BK, self._history = uniforms_BK, history
        # Samplers compute with it beside the logits; asked, so that graphs hold no copy of what is there.
        self._position = position if position.device == before_BT.device else position.to(before_BT.device)
        self._steps = 0
        self.drawn = 0
        self.found_B = torch.ones_like(before_BT[:, 0], dtype=torch.bool)
        """Rows for which something could be drawn each time; tokens of others mean nothing."""

    @property
    def before_BT(self) -> Tensor:
        return self._before_BT

    def tokens(self, logits_BKV: Tensor) -> Tensor:
        batch, count, _ = logits_BKV.shape
        positions_K = self._position + self._steps + torch.arange(count, device=logits_BKV.device)
        history_BH = self._history[0] if self._history else logits_BKV.new_zeros(batch, 0).long()
        tokens_BK = self._draw(
            logits_BKV,
            SamplingContext(positions_K.repeat(batch), history_BH.repeat_interleave(count, dim=0)),
        )
        self._history = tuple(_appended(kept_BH, tokens_BK) for kept_BH in self._history)
        self._steps += count
        return tokens_BK

    def symbols(self, logits_BKV: Tensor) -> Tensor:
        rows = logits_BKV.shape[0] * logits_BKV.shape[1]
        positions_N = (self._position + self._steps).expand(rows)
        return self._draw(logits_BKV, SamplingContext(positions_N, positions_N.new_zeros(rows, 0)))

    def _draw(self, logits_BKV: Tensor, context: SamplingContext) -> Tensor:
        batch, count, _ = logits_BKV.shape
        uniforms_BK = logits_BKV.new_zeros(batch, count)
        if self._uniforms_BK is not None:
            uniforms_BK = self._uniforms_BK[:, self.drawn : self.drawn + count]
        self.drawn += count
        adjusted_NV = self._sampler.adjust(logits_BKV.flatten(0, 1).float(), context)
        ids_N, found_N = inverted(adjusted_NV, uniforms_BK.flatten())
        self.found_B = self.found_B & found_N.view(batch, count).all(dim=1)
        return ids_N.view(batch, count)


def _appended(history_BH: Tensor, tokens_BK: Tensor) -> Tensor:
    return torch.cat([history_BH, tokens_BK], dim=1)[:, -history_BH.shape[1] :]


def inverted(logits_NV: Tensor, uniforms_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ids (N,) that `draw_ids` gives, in operators that graphs have, and which rows have any.

    Rows that are no distribution give 0, which can be read as a token.
    """
    cumulative_NV = logits_NV.softmax(dim=-1).double().cumsum(dim=-1).float()
    total_N1 = cumulative_NV[:, -1:]
    # Kept below the total, so that rounding never passes the last token that can be drawn.
    threshold_N1 = torch.minimum(uniforms_N[:, None] * total_N1, total_N1 * (1 - 2**-24))
    return (cumulative_NV <= threshold_N1).sum(dim=-1), total_N1[:, 0] > 0


class Drawn(NamedTuple):
    """What a backbone read, and what was drawn from it."""

    tokens_BC: Tensor
    found_B: Tensor
    """Rows for which something could be drawn; tokens of others mean nothing."""
    hidden_BCD: Tensor
    backbone: State


class NextChunk(nn.Module):
    """Backbone, head and sampler: from what the backbone reads of a chunk to the next chunk of tokens."""

    def __init__(self, backbone: Backbone[Any], head: Head[Any], sampler: Sampler) -> None:
        super().__init__()
        self.backbone, self.head, self.sampler = backbone, head, sampler
        facts = cast(HeadFacts, head.config.facts())
        self.tokens, self.width = facts.chunk_tokens, facts.input_dim
        self.history = sampler.config.facts().history_tokens
        self.uniforms = self._count()
        """How many uniform numbers a chunk is drawn with."""

    def forward(
        self,
        read: Tensor,
        uniforms_BK: Tensor,
        position: Tensor,
        before_BC: Tensor,
        history: State,
        backbone: State,
    ) -> Drawn:
        """Draw after a chunk `before_BC`, of which the backbone is to `read` this.

        `position` () counts the tokens drawn so far, `history`: as `begin_history`, with that chunk.
        """
        hidden_BCD, backbone = self.backbone.step(read, backbone)
        hidden_BCD = hidden_BCD[:, -self.tokens :]
        draw = TracedDraw(self.sampler, before_BC, uniforms_BK, position, history)
        tokens_BC = self.head.propose(hidden_BCD, draw)
        return Drawn(tokens_BC, draw.found_B, hidden_BCD, backbone)

    def begin_history(self, batch_size: int) -> State:
        """Return what the sampler is told of before the first token: (B,H), or nothing if that is nothing."""
        if not self.history:
            return ()
        return (torch.full((batch_size, self.history), NO_TOKEN, device=self.device),)

    @property
    def device(self) -> torch.device:
        return first_floats(self.head, self.backbone).device

    def noted(self, history: State, tokens_BC: Tensor) -> State:
        """Return the history after these tokens."""
        return tuple(_appended(kept_BH, tokens_BC) for kept_BH in history)

    @torch.no_grad()
    def _count(self) -> int:
        before_1C = torch.zeros(1, self.tokens, dtype=torch.int64, device=self.device)
        draw = TracedDraw(self.sampler, before_1C, None, new_position(), self.begin_history(1))
        self.head.propose(torch.zeros(1, self.tokens, self.width, device=self.device), draw)
        return draw.drawn


class ChunkStep(nn.Module):
    """`forward(uniforms_BK, *state)` gives the next chunk of tokens (B,C) and the next state.

    Tokens are -1 in rows for which nothing could be drawn. The state: what the backbone is to read of the
    last chunk, the hidden states of the chunk before, the last chunk, how many tokens were drawn, the
    sampler's history if it has any; then the quantizer's state if the backbone reads its features; then the
    backbone's.
    """

    HIDDEN = 1
    """Place of the hidden states."""

    def __init__(
        self, quantizer: Quantizer[Any] | None, backbone: Backbone[Any], head: Head[Any], sampler: Sampler
    ) -> None:
        """`quantizer`: that of the features which the backbone reads, if it does."""
        super().__init__()
        self.next = NextChunk(backbone, head, sampler)
        self.quantizer = quantizer
        self.own_tensors = 4 + len(self.next.begin_history(1))
        self.quantizer_tensors = len(self._begin_features(1))

    @property
    def uniforms(self) -> int:
        return self.next.uniforms

    def forward(self, uniforms_BK: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        own, features, backbone = self.split(state)
        read, _, before_BC, position, *history = own
        drawn = self.next(read, uniforms_BK, position, before_BC, tuple(history), backbone)
        tokens_BC = drawn.tokens_BC
        read, features = self._read(tokens_BC, features)
        noted = self.next.noted(tuple(history), tokens_BC)
        own = (read, drawn.hidden_BCD, tokens_BC, position + tokens_BC.shape[1], *noted)
        said_BC = torch.where(drawn.found_B[:, None], tokens_BC, NO_TOKEN)
        return (said_BC, *join_states(own, features, drawn.backbone))

    def of_torch(self, uniforms_BK: Tensor, state: State) -> tuple[Tensor, State]:
        """Step as torch does, operator by operator."""
        said_BC, *left = self(uniforms_BK, *state)
        return said_BC, tuple(left)

    def split(self, state: State) -> tuple[State, State, State]:
        """Return the step's own state, the quantizer's and the backbone's."""
        first, second = self.own_tensors, self.own_tensors + self.quantizer_tensors
        return state[:first], state[first:second], state[second:]

    @stream_mode()
    def after(self, tokens_BC: Tensor) -> State:
        """Return the state after a chunk was read, and the same one was drawn."""
        features, backbone = (
            self._begin_features(len(tokens_BC)),
            self.next.backbone.init_state(len(tokens_BC)),
        )
        read, features = self._read(tokens_BC, features)
        hidden_BCD, backbone = self.next.backbone.step(read, backbone)
        read, features = self._read(tokens_BC, features)
        history = self.next.noted(self.next.begin_history(len(tokens_BC)), tokens_BC)
        position = torch.tensor(tokens_BC.shape[1])
        own = (read.clone(), hidden_BCD[:, -self.next.tokens :], tokens_BC.clone(), position, *history)
        return join_states(own, features, backbone)

    def _begin_features(self, batch_size: int) -> State:
        return () if self.quantizer is None else self.quantizer.init_decode_state(batch_size)

    def _read(self, tokens_BC: Tensor, features: State) -> tuple[Tensor, State]:
        """Return what the backbone is to read of tokens, and the quantizer's next state."""
        return (
            (tokens_BC, features)
            if self.quantizer is None
            else self.quantizer.decode_step(tokens_BC, features)
        )


class WholeChunk(NamedTuple):
    """A chunk of tokens that was drawn in one step of an engine."""

    tokens_BC: Tensor
    found: bool
    """Whether all rows could draw something; those that could not draw nothing from `hidden_BCD` either."""
    read: Tensor
    """What the backbone is to read of the tokens."""
    hidden_BCD: Tensor
    features: State
    backbone: State
    state: State
    """The state of the step: the next one takes it if those of quantizer and backbone have stayed there."""


class ChunkEngine:
    """Whole steps, made by an engine, over states that may go on part by part at any time."""

    def __init__(
        self, step: ChunkStep, fast: Mapping[int, Callable[[Tensor, State], tuple[Tensor, State]]]
    ) -> None:
        """`fast`: by how many rows there are, which are at one place of their streams."""
        self._step, self._fast = step, fast

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """What an engine made lives in this process: pickled, it is nothing."""
        return type(None), ()

    def __deepcopy__(self, memo: dict[int, Any]) -> ChunkEngine:
        return self

    def takes(self, rows: int, sampler: Sampler) -> bool:
        """Return whether it makes steps of so many rows, which draw with such a sampler."""
        own = self._step.next.sampler
        alike = sampler is own or (type(sampler) is type(own) and sampler.config == own.config)
        return alike and rows in self._fast

    @stream_mode()
    def __call__(
        self, read: Tensor, draw: TokenDraw, features: State, backbone: State, *, last: WholeChunk | None
    ) -> WholeChunk:
        """Let the backbone read what was drawn last, of which `draw` has taken note, and draw the next chunk.

        `last`: what was drawn last, if that was in one step.
        """
        if last is not None and last.features is features and last.backbone is backbone:
            state = last.state
        else:
            state = join_states(self._own_state(read, draw), features, backbone)
        said_BC, state = self._fast[len(read)](draw.uniform(self._step.uniforms), state)
        own, features, backbone = self._step.split(state)
        # A copy, since an engine may write where its state lies, and others keep what they are given.
        return WholeChunk(said_BC, int(said_BC.min()) >= 0, own[0].clone(), own[1], features, backbone, state)

    def _own_state(self, read: Tensor, draw: TokenDraw) -> State:
        before_BC, position, *history = draw.state()
        size = len(read), self._step.next.tokens, self._step.next.width
        return (read.clone(), torch.zeros(size, device=before_BC.device), before_BC, position, *history)
