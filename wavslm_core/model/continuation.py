"""Sequences of tokens that are read, and drawn further chunk by chunk; whole continuations of prompts."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wavslm_core.model.chunk_step import WholeChunk
from wavslm_core.model.prompts import check_whole_prompt
from wavslm_core.model.sampling import TokenDraw, candidate_seeds
from wavslm_core.model.token_lm import TokenLM
from wavslm_core.parts.interfaces import Sampler, State
from wavslm_core.parts.lengths import valid_mask
from wavslm_core.parts.streaming import stream_mode


class Continuation:
    """Rows of one length, all of which read, or draw the next chunk of the head, at the same time.

    A step of the backbone is made when its result is asked for: right away for what is read, for what was
    drawn when the next chunk is.
    """

    def __init__(self, model: TokenLM, sampler: Sampler, seeds: Sequence[int]) -> None:
        self.model = model
        self._nothing_BT = torch.zeros(len(seeds), 0, dtype=torch.int64, device=model.token_device)
        self._draw = TokenDraw(sampler, self._nothing_BT, seeds=seeds)
        self._states: dict[str, State] = {}
        self._drawn_BC = self._nothing_BT
        self._drawn_inputs: Tensor | None = None
        self._hidden_BCD: Tensor | None = None
        self._whole: WholeChunk | None = None
        """The last chunk, if it was drawn in one step of an engine."""

    @stream_mode()
    def read(self, tokens_BT: Tensor) -> Tensor:
        """Read the next tokens (B,T), which are not its own; return what the backbone reads of them.

        Raises: ArgumentError unless they are whole chunks of the head, at least one.
        """
        check_whole_prompt(tokens_BT.shape[1], self.model.chunk_tokens)
        unread = [self.drawn_inputs()] if self._drawn_BC.shape[1] else []
        inputs = self._inputs(tokens_BT)
        self._read(torch.cat([*unread, inputs], dim=1))
        self._drawn_BC, self._drawn_inputs, self._whole = self._nothing_BT, None, None
        self._draw.read(tokens_BT)
        return inputs

    @stream_mode()
    def next_tokens(self) -> Tensor:
        """Draw the next chunk (B,C), after something was read."""
        if self._hidden_BCD is None and self._step_whole():
            return self._drawn_BC
        if self._hidden_BCD is None:
            self._read(self.drawn_inputs())
        assert self._hidden_BCD is not None
        self._drawn_BC = self.model.head.propose(self._hidden_BCD, self._draw)
        self._draw.end_chunk(self._drawn_BC)
        self._hidden_BCD = self._drawn_inputs = self._whole = None
        return self._drawn_BC

    def _step_whole(self) -> bool:
        """Read what was drawn and draw the next chunk in one step of an engine, if there is one for it."""
        engine = self.model.chunk_engine
        if engine is None or not engine.takes(len(self._drawn_BC), self._draw.sampler):
            return False
        read = self.drawn_inputs()
        features, backbone = self._states.get("features", ()), self._states["backbone"]
        self._whole = chunk = engine(read, self._draw, features, backbone, last=self._whole)
        self._states = {"features": chunk.features, "backbone": chunk.backbone}
        if not chunk.found:
            self._hidden_BCD = chunk.hidden_BCD
            return False
        self._drawn_BC, self._drawn_inputs = chunk.tokens_BC, chunk.read
        self._draw.end_chunk(self._drawn_BC)
        return True

    def drawn_inputs(self) -> Tensor:
        """Return what the backbone is to read of the chunk that was drawn last; features are decoded once."""
        if self._drawn_inputs is None:
            self._drawn_inputs = self._inputs(self._drawn_BC)
        return self._drawn_inputs

    def _inputs(self, tokens_BT: Tensor) -> Tensor:
        if not self.model.reads_features:
            return tokens_BT
        return self._step("features", self.model.codec.quantizer.decode_step, tokens_BT)

    def _read(self, inputs: Tensor) -> None:
        hidden_BTD = self._step("backbone", self.model.backbone.step, inputs)
        self._hidden_BCD = hidden_BTD[:, -self.model.chunk_tokens :]

    def _step(self, name: str, step: Callable[[Tensor, State], tuple[Tensor, State]], x: Tensor) -> Tensor:
        """Advance the state of that name, which begins with the first step."""
        state = self._states.get(name) or self._start(name)(len(x))
        y, self._states[name] = step(x, state)
        return y

    def _start(self, name: str) -> Callable[[int], State]:
        """Return what makes a state of that name for a number of rows."""
        starts: dict[str, Callable[[int], State]] = {
            "backbone": self.model.backbone.init_state,
            "features": self.model.codec.quantizer.init_decode_state,
        }
        return starts[name]


class Generation:
    """A model and the sampler that draws. Shapes: B prompts of one length, N candidates of all of them."""

    def __init__(self, model: TokenLM, sampler: Sampler) -> None:
        self.model = model
        self.sampler = sampler
        self.candidates = sampler.config.facts().candidates

    def tokens(self, prompt_BT: Tensor, new_tokens: int, seeds: Sequence[int]) -> Tensor:
        """Continue prompts by that many tokens, with a seed for each: (B, new_tokens).

        Raises: ArgumentError for prompts that are not whole chunks, at least one.
        """
        prompt_NT, continuation = self._begin(prompt_BT, seeds)
        chunks = -(-new_tokens // self.model.chunk_tokens)
        pieces = [continuation.next_tokens() for _ in range(chunks)]
        new_NT = torch.cat([prompt_NT[:, :0], *pieces], dim=1)[:, :new_tokens]
        if self.candidates == 1 or new_tokens == 0:
            return new_NT[:: self.candidates]
        return new_NT[self._likeliest(prompt_NT, new_NT)]

    def frames(self, prompt_BT: Tensor, frames: int, seeds: Sequence[int]) -> list[Tensor]:
        """Continue each prompt by the fewest merged tokens (T,) that stand for that many frames.

        Raises: as `tokens`.
        """
        codec = self.model.codec
        prompt_NT, continuation = self._begin(prompt_BT, seeds)
        pieces = [prompt_NT[:, :0]]
        missing_N = prompt_NT.new_full((len(prompt_NT),), frames)
        while int(missing_N.max()) > 0:
            pieces.append(continuation.next_tokens())
            missing_N = missing_N - codec.expand(pieces[-1])[1]
        new_NT = torch.cat(pieces, dim=1)
        runs_NT = codec.expand(new_NT.reshape(-1, 1))[1].view_as(new_NT)
        sizes_N = (runs_NT.cumsum(dim=1) - runs_NT < frames).sum(dim=1)
        if self.candidates > 1 and frames > 0:
            best_B = self._likeliest(prompt_NT, new_NT, new_lengths=sizes_N)
            new_NT, sizes_N = new_NT[best_B], sizes_N[best_B]
        return [new_T[:size] for new_T, size in zip(new_NT, sizes_N.tolist(), strict=True)]

    def _begin(self, prompt_BT: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Continuation]:
        prompt_NT = prompt_BT.repeat_interleave(self.candidates, dim=0)
        continuation = Continuation(self.model, self.sampler, candidate_seeds(seeds, self.candidates))
        continuation.read(prompt_NT)
        return prompt_NT, continuation

    def _likeliest(self, prompt_NT: Tensor, new_NT: Tensor, *, new_lengths: Tensor | None = None) -> Tensor:
        """Return the row (B,) of the likeliest candidate of each prompt."""
        size = prompt_NT.shape[1]
        lengths = None if new_lengths is None else size + new_lengths
        log_probs_NT = self.model.score(torch.cat([prompt_NT, new_NT], dim=1), lengths=lengths)[:, size:]
        if new_lengths is not None:
            log_probs_NT = log_probs_NT.masked_fill(~valid_mask(new_lengths, new_NT.shape[1]), 0.0)
        best_B = log_probs_NT.sum(dim=1).unflatten(0, (-1, self.candidates)).argmax(dim=1)
        return torch.arange(len(best_B), device=best_B.device) * self.candidates + best_B


def by_length(prompt_BT: Tensor, lengths: Tensor | None) -> list[tuple[Tensor, Tensor]]:
    """Return (row indices, their prompts without padding) for each length that occurs."""
    if lengths is None:
        return [(torch.arange(prompt_BT.shape[0], device=prompt_BT.device), prompt_BT)]
    groups = []
    for length in lengths.unique().tolist():
        rows = (lengths == length).nonzero().flatten()
        groups.append((rows, prompt_BT[rows, :length]))
    return groups
