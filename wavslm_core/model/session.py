"""Conversations in real time: what is said to a language model goes in, what it says comes out, as audio."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Self

import torch
from torch import Tensor

from wavslm_core.data.arguments import Given, Seeds, checked_seeds, checked_waveform, first_floats
from wavslm_core.errors import ArgumentError, StreamingError
from wavslm_core.model.continuation import Continuation
from wavslm_core.model.prompts import chunk_in_words, prompt_unit
from wavslm_core.model.token_lm import SamplerLike, TokenLM
from wavslm_core.parts.interfaces import Sampler, State
from wavslm_core.parts.streaming import stream_mode


class Session:
    """Rows that hear and speak, chunk by chunk, in any order. Made by `SpeechLM.session`.

    A row is one conversation: it joins with a seed, hears recorded speech, speaks on after what was heard and
    spoken so far, hears more, and leaves. What it says depends on that and its seed alone, not on what other
    rows are there or do. Hearing a prompt, in pieces of any number of chunks, and speaking gives what
    `generate` and `decode_continuation` give of the whole prompt.

    A step costs the same after ten minutes as after one second, and so does what is kept of a row. Rows that
    joined before either did anything, and are always named together, advance as one batch; a row that parts
    from the others is advanced by itself from then on, which costs more (four rows apart: about twice a batch
    of four), and where the quantizer merges runs, all are. One thread at a time.
    """

    def __init__(self, model: TokenLM, sampler: SamplerLike = None) -> None:
        for part in (model.backbone, model.codec.quantizer, model.codec.decoder):
            if not part.config.facts().streams:
                raise part.no_streaming()
        self._model = model
        self._sampler = self._checked_sampler(sampler)
        self._joined = 0
        self._fresh: dict[int, tuple[Sampler, int]] = {}
        """Rows that have done nothing yet: their samplers and seeds."""
        self._batches: list[tuple[list[int], _Speech]] = []
        """Rows that are at one place of their streams, and what they are there."""

    @property
    def rows(self) -> list[int]:
        """The rows that are here, in the order in which they joined."""
        return sorted([*self._fresh, *(row for rows, _ in self._batches for row in rows)])

    def join(self, *, seed: Seeds = 0, sampler: SamplerLike = None) -> int:
        """Let a row join; return its number, which is never used again.

        `seed` is what it draws with, `sampler` its own instead of the session's. Raises: ArgumentError,
        RecipeError; StreamingError for a sampler that ranks whole continuations.
        """
        (seed,) = checked_seeds(seed, 1)
        chosen = self._sampler if sampler is None else self._checked_sampler(sampler)
        row = self._joined
        self._fresh[row] = chosen, seed
        self._joined += 1
        return row

    def leave(self, row: int) -> Tensor:
        """Let a row leave; return the last samples (S,) of what it said, if they were still held back."""
        (row,) = self._checked_rows([row])
        (_, speech), *_ = self._together([row])
        self._batches = [batch for batch in self._batches if batch[1] is not speech]
        return speech.flush()[0]

    def hear(self, waveform_BS: Given, rows: Sequence[int] | None = None) -> list[Tensor]:
        """Hear the next n chunks of recorded speech (B, n·`codec.facts.chunk_samples_in`), one for each row.

        At `codec.sample_rate_in`, for all rows by default. To the encoder, what a row hears is one recording,
        whatever it says in between. A head whose chunk is longer than what was heard waits for the rest of
        it. Returns for each row the samples (S,) of what it had said that were still held back: at most
        `codec.facts.decoder.delay_samples`. Raises: AudioError; ArgumentError for rows that are not here;
        StreamingError for a part of a chunk, or when the encoder does not stream.
        """
        codec, rows = self._model.codec, self._checked_rows(rows)
        for part in (codec.encoder, codec.quantizer):
            if not part.config.facts().streams:
                raise part.no_streaming()
        waveform_BS = checked_waveform(waveform_BS, like=first_floats(codec.encoder, codec), wait=False)
        batch, size = waveform_BS.shape
        chunk = codec.facts.chunk_samples_in
        if batch != len(rows) or size % chunk:
            raise StreamingError(
                f"rows {rows} hear ({len(rows)}, n·{chunk}) samples, got {[batch, size]}; collect samples "
                "until a chunk is whole"
            )
        return self._each(rows, lambda speech, places: speech.hear(waveform_BS[places]))

    def read(self, tokens_BT: Given, rows: Sequence[int] | None = None) -> list[Tensor]:
        """Hear speech that is encoded already: tokens (B,T), whole chunks of the head, one row for each row.

        Returns and raises as `hear`; ArgumentError for what are no such tokens.
        """
        rows = self._checked_rows(rows)
        tokens_BT, _ = self._model.checked_tokens(tokens_BT)
        if len(tokens_BT) != len(rows):
            raise ArgumentError(f"{len(rows)} rows read ({len(rows)}, T) tokens, got {[*tokens_BT.shape]}")
        return self._each(rows, lambda speech, places: speech.read_on(tokens_BT[places]))

    def speak(self, rows: Sequence[int] | None = None) -> list[Tensor]:
        """Say what comes next: the next chunk of audio (S,) of each row, at `codec.sample_rate_out`.

        A chunk of the head or of the codec, whichever is longer, but as a decoder that lags holds the last
        `codec.facts.decoder.delay_samples` back, a row's first audio is shorter by those; `hear` and `leave`
        give them. Where the quantizer merges runs, lengths vary. What was heard and does not fill a chunk of
        the head is forgotten. Raises: ArgumentError for rows that are not here; StreamingError for rows that
        have heard nothing yet; CheckpointError when the model gives NaN.
        """
        rows = self._checked_rows(rows)
        heard = {row for members, speech in self._batches for row in members if speech.has_past}
        silent = [row for row in rows if row not in heard]
        if silent:
            model = self._model
            least = chunk_in_words(model.codec, prompt_unit(model.codec, model.chunk_tokens))
            raise StreamingError(
                f"rows {silent} have not heard a whole chunk yet ({least}), and a model speaks on after what "
                "it heard: let them hear first"
            )
        return self._each(rows, lambda speech, _: speech.speak())

    def _each(self, rows: list[int], step: Callable[[_Speech, list[int]], Tensor]) -> list[Tensor]:
        """Advance rows, those at one place together; `step` is given their places in `rows`."""
        found: dict[int, Tensor] = {}
        for members, speech in self._together(rows):
            found |= zip(members, step(speech, [rows.index(row) for row in members]), strict=True)
        return [found[row] for row in rows]

    def _together(self, rows: list[int]) -> list[tuple[list[int], _Speech]]:
        """Return the batches that hold these rows and no others, begun or split off as needed."""
        self._begin(rows)
        wanted: list[tuple[list[int], _Speech]] = []
        others: list[tuple[list[int], _Speech]] = []
        for members, speech in self._batches:
            inside = [place for place, row in enumerate(members) if row in rows]
            outside = [place for place, row in enumerate(members) if row not in rows]
            if inside and outside:
                wanted.append(([members[place] for place in inside], speech.take(inside)))
                others.append(([members[place] for place in outside], speech.take(outside)))
            else:
                (wanted if inside else others).append((members, speech))
        self._batches = wanted + others
        return wanted

    def _begin(self, rows: list[int]) -> None:
        """Put rows that have done nothing yet into batches."""
        groups: dict[object, list[int]] = {}
        for row in rows:
            if row in self._fresh:
                # Rows of one length of audio may be of different numbers of merged tokens.
                alone = self._model.codec.facts.quantizer.variable_rate
                groups.setdefault(row if alone else id(self._fresh[row][0]), []).append(row)
        for members in groups.values():
            (sampler, _), *_ = (self._fresh[row] for row in members)
            seeds = [self._fresh.pop(row)[1] for row in members]
            self._batches.append((members, _Speech(self._model, sampler, seeds)))

    def _checked_sampler(self, sampler: SamplerLike) -> Sampler:
        chosen = self._model.make_sampler(sampler)
        if chosen.config.facts().candidates > 1:
            raise StreamingError(
                "the sampler picks the likeliest of several whole continuations, so nothing can be heard "
                "before the last is drawn: use generate(), or a sampler with one candidate"
            )
        return chosen

    def _checked_rows(self, rows: Sequence[int] | None) -> list[int]:
        """Return the given rows, or all. Raises: ArgumentError unless they are here, each of them once."""
        here = self.rows
        try:
            given = here if rows is None else [operator.index(row) for row in rows]
        except TypeError:
            given = []
        if not given or len({*given}) < len(given) or not {*given} <= {*here}:
            raise ArgumentError(
                f"rows must be a list of some that are here, each once; got {rows}, but {here or 'none'} are "
                "here (`join` gives the number of one)"
            )
        return given


class _Speech(Continuation):
    """A continuation with ears and a mouth: rows that encode what they hear and decode what they say.

    The decoder reads what is heard, too, so that what is said has no seam. A proposed chunk is turned into
    features once, and decoder and backbone both read those, unless tokens are merged (then the decoder reads
    a frame for each that they stand for) or the head's chunks are not whole ones of the codec.
    """

    def __init__(self, model: TokenLM, sampler: Sampler, seeds: Sequence[int]) -> None:
        super().__init__(model, sampler, seeds)
        self._facts = model.codec.facts
        self._merges = self._facts.quantizer.variable_rate
        whole = model.chunk_tokens % self._facts.chunk_tokens == 0
        self._shares_features = model.reads_features and not self._merges and whole
        self.has_past = False
        self._unread_BT = self._undecoded_BT = self._nothing_BT
        self._tokens = 0
        """Tokens, not merged, that the decoder was to read so far."""
        self._samples = -self._facts.decoder.delay_samples
        """Samples that are decoded so far."""
        self._spoken: list[tuple[int, int]] = []
        """Which of the samples that are not decoded yet were spoken: from, to."""

    @stream_mode()
    def hear(self, waveform_BS: Tensor) -> Tensor:
        codec = self.model.codec
        features_BTD = self._step("encoder", codec.encoder.step, waveform_BS)
        tokens_BT = self._step("encode", codec.quantizer.encode_step, features_BTD)
        tokens_BT = torch.cat([self._unread_BT, tokens_BT], dim=1)
        known = tokens_BT.shape[1]
        if self._merges:
            tokens_BT, (count,) = codec.quantizer.compact(tokens_BT)
            # The last run may go on.
            known = int(count) - 1
        unit = prompt_unit(codec, self.model.chunk_tokens)
        whole = known // unit * unit
        self._unread_BT = tokens_BT[:, whole:]
        return self._read_on(tokens_BT[:, :whole]) if whole else self._silence()

    @stream_mode()
    def read_on(self, tokens_BT: Tensor) -> Tensor:
        """Read tokens as if they were heard; what was heard and is not read yet is forgotten."""
        audio_BS = self._read_on(tokens_BT)
        self._unread_BT = self._nothing_BT
        return audio_BS

    @stream_mode()
    def speak(self) -> Tensor:
        self._unread_BT = self._nothing_BT
        while True:
            tokens_BC = self.next_tokens()
            audio_BS = self._decode(tokens_BC, self.drawn_inputs, spoken=True)
            if audio_BS is not None:
                return audio_BS

    @stream_mode()
    def flush(self) -> Tensor:
        if "decoder" not in self._states:
            return self._silence()
        return self._cut(self.model.codec.decoder.flush(self._states["decoder"]))

    def take(self, rows: Sequence[int]) -> Self:
        taken = super().take(rows)
        taken._spoken = [*self._spoken]
        return taken

    def _read_on(self, tokens_BT: Tensor) -> Tensor:
        inputs = self.read(tokens_BT)
        self.has_past = True
        audio_BS = self._decode(tokens_BT, lambda: inputs, spoken=False)
        return self._silence() if audio_BS is None else audio_BS

    def _decode(self, tokens_BT: Tensor, inputs: Callable[[], Tensor], *, spoken: bool) -> Tensor | None:
        """Return what was spoken of the audio that is known with these tokens; None without a whole chunk.

        `inputs` gives what the backbone reads of them.
        """
        quantizer = self.model.codec.quantizer
        plain_BT = quantizer.expand(tokens_BT)[0] if self._merges else tokens_BT
        start = self._facts.samples_out(self._tokens)
        self._tokens += plain_BT.shape[1]
        if spoken:
            self._spoken.append((start, self._facts.samples_out(self._tokens)))
        if self._shares_features:
            features_BFD = inputs()
        else:
            self._undecoded_BT = torch.cat([self._undecoded_BT, plain_BT], dim=1)
            whole = self._undecoded_BT.shape[1] // self._facts.chunk_tokens * self._facts.chunk_tokens
            if whole == 0:
                return None
            ready_BT, self._undecoded_BT = self._undecoded_BT.split(
                [whole, self._undecoded_BT.shape[1] - whole], dim=1
            )
            features_BFD = self._step("spoken", quantizer.decode_step, ready_BT)
        return self._cut(self._step("decoder", self.model.codec.decoder.step, features_BFD))

    def _cut(self, audio_BS: Tensor) -> Tensor:
        """Return what was spoken of the next decoded samples."""
        start = self._samples
        self._samples += audio_BS.shape[1]
        spans = [(max(0, first - start), max(0, last - start)) for first, last in self._spoken]
        self._spoken = [(first, last) for first, last in self._spoken if last > self._samples]
        pieces = [audio_BS[:, first:last] for first, last in spans]
        return pieces[0] if len(pieces) == 1 else torch.cat([audio_BS[:, :0], *pieces], dim=1)

    def _silence(self) -> Tensor:
        return torch.zeros(self._nothing_BT.shape, device=self._nothing_BT.device)

    def _start(self, name: str) -> Callable[[int], State]:
        codec = self.model.codec
        starts: dict[str, Callable[[int], State]] = {
            "encoder": codec.encoder.init_state,
            "encode": codec.quantizer.init_encode_state,
            "spoken": codec.quantizer.init_decode_state,
            "decoder": codec.decoder.init_state,
        }
        return starts[name] if name in starts else super()._start(name)


def side_by_side(session: Session) -> Iterator[Tensor]:
    """Let all rows of a session speak; yield the audio (B,S) of all, in the order in which they joined.

    A row that is ahead of the others waits for them, so that no more than a chunk of it is held.
    """
    held = dict(zip(session.rows, session.speak(), strict=True))
    while True:
        while behind := [row for row, piece_S in held.items() if piece_S.numel() == 0]:
            held |= zip(behind, session.speak(behind), strict=True)
        ready = min(piece_S.numel() for piece_S in held.values())
        yield torch.stack([piece_S[:ready] for piece_S in held.values()])
        held = {row: piece_S[ready:] for row, piece_S in held.items()}
