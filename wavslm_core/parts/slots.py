"""The state of one part for many streams, which begin, rest, advance and end while others go on.

A slot is a place in the batch of a state. Rows that act come to the front: a step is given the first slots as
views of tensors that stay where they are, so that resting rows are neither computed nor touched. As long as
the same rows act, a step is given what the last one gave, and nothing is copied. When others act, rows change
places, which copies their states once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wavslm_core.parts.interfaces import State
from wavslm_core.parts.streaming import stream_mode


class _Kept(NamedTuple):
    """A tensor of all slots, and along which dimension they lie; None: what all rows have in common."""

    tensor: Tensor
    dim: int | None


class Slots:
    """Rows of a part, each in its own place of its own stream.

    A row begins with its first step. What it gives depends on what it was given alone, to rounding: rows at
    different places of their streams advance in one step, for which numbers of a state that are no tensors of
    rows, such as positions, are given as one for each row, (B,).
    """

    def __init__(
        self, init_state: Callable[[int], State], step: Callable[[Tensor, State], tuple[Tensor, State]]
    ) -> None:
        self._init_state, self._step = init_state, step
        self._first: State = ()
        """The state of one row that has not begun."""
        self._kept: list[_Kept] = []
        self._room = 0
        """How many slots there are."""
        self._rows: list[int] = []
        """Which row is in which slot."""
        self._places: dict[int, int] = {}
        """How much each row was given so far: rows with as much are at one place."""
        self._views: dict[int, State] = {}
        self._loose: State = ()
        """The state of the first slots as the last step gave it, if it was not put into them yet."""
        self._loose_count = 0

    @property
    def rows(self) -> list[int]:
        """The rows that have begun and not ended, in no order."""
        return [*self._rows]

    @stream_mode()
    def advance(self, pieces: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Return what the next whole chunks (T,…) of rows give, each without a batch.

        Rows advance in one step as far as the shortest piece goes, the others then go on. A row that was
        never here begins.
        """
        outputs: dict[int, list[Tensor]] = {row: [] for row in pieces}
        left = dict(pieces)
        while left:
            size = min(len(piece) for piece in left.values())
            order = self._bring([*left])
            y_NT = self._advance(order, torch.stack([left[row][:size] for row in order]))
            for row, y_T in zip(order, y_NT, strict=True):
                outputs[row].append(y_T)
            left = {row: piece[size:] for row, piece in left.items() if len(piece) > size}
        return {row: found[0] if len(found) == 1 else torch.cat(found) for row, found in outputs.items()}

    @stream_mode()
    def lend(self, row: int) -> State:
        """Return the state that a step of this row alone is given, which has begun; `take_back` follows."""
        return self._acting(self._bring([row]))

    def take_back(self, row: int, left: State, places: int) -> None:
        """Take what a step by so many places (frames, tokens) left of the state that was lent last."""
        self._leave([row], left, places)

    @stream_mode()
    def state(self, row: int) -> State:
        """Return a copy of the state of one row that has begun, as a batch of one."""
        self._settle()
        slot = self._rows.index(row)
        return tuple(
            tensor.clone()
            if dim is None
            else (tensor[slot] if first.dim() == 0 else tensor.narrow(dim, slot, 1)).clone()
            for (tensor, dim), first in zip(self._kept, self._first, strict=True)
        )

    @stream_mode()
    def end(self, row: int) -> None:
        """Forget a row, if it has begun; its slot is free."""
        if row not in self._places:
            return
        self._settle()
        self._exchange([self._rows.index(row)], [len(self._rows) - 1])
        self._rows.pop()
        del self._places[row]
        if not self._rows:
            self._kept, self._room, self._views = [], 0, {}

    def _bring(self, rows: Sequence[int]) -> list[int]:
        """Bring these rows, and no others, to the first slots; return them in the order of those."""
        for row in rows:
            if row not in self._places:
                self._begin(row)
        wanted, count = {*rows}, len(rows)
        away = [slot for slot in range(count, len(self._rows)) if self._rows[slot] in wanted]
        if away:
            free = [slot for slot in range(count) if self._rows[slot] not in wanted]
            self._exchange(free, away)
        return self._rows[:count]

    def _begin(self, row: int) -> None:
        self._settle()
        slot = len(self._rows)
        if slot == self._room:
            self._make_room(max(1, 2 * slot))
        self._rows.append(row)
        self._places[row] = 0
        for (tensor, dim), first in zip(self._kept, self._first, strict=True):
            if dim is not None:
                tensor.narrow(dim, slot, 1).copy_(first)

    def _make_room(self, slots: int) -> None:
        if self._room == 0:
            self._first = tuple(tensor.clone() for tensor in self._init_state(1))
        kept = []
        for place, (first, two) in enumerate(zip(self._first, self._init_state(2), strict=True)):
            dim = _batch_dim(first, two)
            if dim is None:
                kept.append(_Kept(first, None))
                continue
            shape = [*first.shape] or [1]
            shape[dim] = slots
            made = first.new_zeros(shape)
            if self._kept:
                before = self._kept[place].tensor
                made.narrow(dim, 0, before.shape[dim]).copy_(before)
            kept.append(_Kept(made, dim))
        self._kept, self._room, self._views = kept, slots, {}

    def _exchange(self, some: Sequence[int], others: Sequence[int]) -> None:
        """Exchange what is in slots pair by pair."""
        pairs = [(one, other) for one, other in zip(some, others, strict=True) if one != other]
        if not pairs:
            return
        self._settle()
        for one, other in pairs:
            self._rows[one], self._rows[other] = self._rows[other], self._rows[one]
        to_N = torch.tensor([slot for pair in pairs for slot in pair])
        from_N = torch.tensor([slot for one, other in pairs for slot in (other, one)])
        for tensor, dim in self._kept:
            if dim is not None:
                moved = tensor.index_select(dim, from_N.to(tensor.device))
                tensor.index_copy_(dim, to_N.to(tensor.device), moved)

    def _advance(self, rows: Sequence[int], x_NT: Tensor) -> Tensor:
        """Advance the first slots, in which these rows are."""
        # What a step gave goes on as it is, for as long as the same rows act.
        y_NT, left = self._step(x_NT, self._acting(rows))
        self._leave(rows, left, x_NT.shape[1])
        return y_NT

    def _acting(self, rows: Sequence[int]) -> State:
        """Return the state of the first slots, in which these rows are."""
        if len(rows) != self._loose_count:
            self._settle()
        return self._loose if self._loose_count else self._given(rows)

    def _leave(self, rows: Sequence[int], left: State, places: int) -> None:
        """Take the state of the first slots that a step by so many places left."""
        self._loose, self._loose_count = left, len(rows)
        for row in rows:
            self._places[row] += places

    def _given(self, rows: Sequence[int]) -> State:
        """Return the state of the first slots: one number for all where all are at one place."""
        if len({self._places[row] for row in rows}) > 1:
            return self._first_slots(len(rows))
        views = self._first_slots(len(rows))
        return tuple(
            view[0] if first.dim() == 0 else view for view, first in zip(views, self._first, strict=True)
        )

    def _first_slots(self, count: int) -> State:
        views = self._views.get(count)
        if views is None:
            views = self._views[count] = tuple(
                tensor if dim is None else tensor.narrow(dim, 0, count) for tensor, dim in self._kept
            )
        return views

    def _settle(self) -> None:
        """Put what the last step gave into the slots."""
        if not self._loose_count:
            return
        views = self._first_slots(self._loose_count)
        for (_, dim), view, left in zip(self._kept, views, self._loose, strict=True):
            # What was written where it stood is there already.
            if dim is not None and not _same_memory(view, left):
                view.copy_(left.clone() if _shares_memory(view, left) else left)
        self._loose, self._loose_count = (), 0


def _batch_dim(one: Tensor, two: Tensor) -> int | None:
    """Return the dimension of rows, given the states of one row and of two; None where there is none.

    A single number is one of each row.
    """
    if one.dim() == 0:
        return 0
    differing = [
        dim for dim, (size, other) in enumerate(zip(one.shape, two.shape, strict=True)) if size != other
    ]
    return differing[0] if differing else None


def _same_memory(view: Tensor, left: Tensor) -> bool:
    """Tell whether what is left of a state stands in its slots, and is not one number for all."""
    return left.dim() == view.dim() and (
        left is view or (left.data_ptr() == view.data_ptr() and left.stride() == view.stride())
    )


def _shares_memory(view: Tensor, left: Tensor) -> bool:
    return left.untyped_storage().data_ptr() == view.untyped_storage().data_ptr()
