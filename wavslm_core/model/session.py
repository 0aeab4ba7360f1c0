"""Conversations in real time: what is said to a language model goes in, what it says comes out, as audio."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from wavslm_core.data.arguments import Given, Seeds, checked_seeds, checked_waveform, first_floats
from wavslm_core.errors import ArgumentError, StreamingError
from wavslm_core.model.chunk_step import WholeChunk
from wavslm_core.model.prompts import check_whole_prompt, chunk_in_words, prompt_unit
from wavslm_core.model.sampling import JoinedDraw, TokenDraw
from wavslm_core.model.token_lm import SamplerLike, TokenLM
from wavslm_core.parts.interfaces import Sampler
from wavslm_core.parts.slots import Slots
from wavslm_core.parts.streaming import stream_mode


class Advance(NamedTuple):
    """What an advance of a session gave."""

    audio: dict[int, Tensor]
    """What each row said, (S,), also none."""
    failed: dict[int, Exception]
    """Rows that could not speak, and why: StreamingError for one that has heard nothing yet, which may go on;
    one with any other error can only leave."""


class Session:
    """Rows that hear and speak, chunk by chunk, in any order. Made by `SpeechLM.session`.

    A row is one conversation: it joins with a seed, hears recorded speech, speaks on after what was heard and
    spoken so far, hears more, and leaves. What it says depends on that and its seed alone, not on what other
    rows are there or do. Hearing a prompt, in pieces of any size, and speaking gives what `generate` and
    `decode_continuation` give of the whole prompt.

    What a row hears and says is its context in the order of the calls; within one `advance`, it hears first.
    What was heard and fills no chunk yet waits until more is heard, and is context then, also if the row
    speaks before.

    Whatever rows do at the same time is computed as one batch, wherever in their streams they are: they may
    join, rest and leave at any time. Rows that hear and rows that speak share the steps of backbone and
    decoder if both do in one `advance`. A step costs the same after ten minutes as after one second, and so
    does what is kept of a row. One thread at a time.
    """

    def __init__(self, model: TokenLM, sampler: SamplerLike = None) -> None:
        codec = model.codec
        for part in (model.backbone, codec.quantizer, codec.decoder):
            if not part.config.facts().streams:
                raise part.no_streaming()
        self._model, self._facts = model, codec.facts
        self._sampler = self.make_sampler(sampler)
        self._joined = 0
        self._rows: dict[int, _Row] = {}
        self._merges = self._facts.quantizer.variable_rate
        whole = model.chunk_tokens % self._facts.chunk_tokens == 0
        # A chunk is turned into features once, and decoder and backbone both read those, unless tokens are
        # merged (then the decoder reads a frame for each that they stand for) or the head's chunks are not
        # whole ones of the codec.
        self._shares_features = model.reads_features and not self._merges and whole
        self._reads_apart = model.reads_features and not self._shares_features
        quantizer = codec.quantizer
        self._encoder = Slots(codec.encoder.init_state, codec.encoder.step)
        self._encode = Slots(quantizer.init_encode_state, quantizer.encode_step)
        self._features = Slots(quantizer.init_decode_state, quantizer.decode_step)
        self._spoken = Slots(quantizer.init_decode_state, quantizer.decode_step)
        self._backbone = Slots(model.backbone.init_state, model.backbone.step)
        self._decoder = Slots(codec.decoder.init_state, codec.decoder.step)

    @property
    def rows(self) -> list[int]:
        """The rows that are here, in the order in which they joined."""
        return [*self._rows]

    def make_sampler(self, sampler: SamplerLike) -> Sampler:
        """Return the given sampler, or the model's own, for rows of sessions.

        Raises: RecipeError; StreamingError for one that ranks whole continuations.
        """
        chosen = self._model.make_sampler(sampler)
        if chosen.config.facts().candidates > 1:
            raise StreamingError(
                "the sampler picks the likeliest of several whole continuations, so nothing can be heard "
                "before the last is drawn: use generate(), or a sampler with one candidate"
            )
        return chosen

    def join(self, *, seed: Seeds = 0, sampler: SamplerLike = None) -> int:
        """Let a row join; return its number, which is never used again.

        `seed` is what it draws with, `sampler` its own instead of the session's. Raises: ArgumentError,
        RecipeError; StreamingError for a sampler that ranks whole continuations.
        """
        seeds = checked_seeds(seed, 1)
        chosen = self._sampler if sampler is None else self.make_sampler(sampler)
        nothing_1T = torch.zeros(1, 0, dtype=torch.int64, device=self._model.token_device)
        draw = TokenDraw(chosen, nothing_1T, seeds=seeds)
        row, self._joined = self._joined, self._joined + 1
        self._rows[row] = _Row(draw, nothing_1T[0], samples=-self._facts.decoder.delay_samples)
        return row

    @stream_mode()
    def leave(self, row: int) -> Tensor:
        """Let a row leave; return the last samples (S,) of what it said, if they were still held back."""
        (row,) = self._checked_rows([row])
        left = self._rows.pop(row)
        audio_S = left.silence()
        if row in self._decoder.rows:
            audio_S = left.cut(self._model.codec.decoder.flush(self._decoder.state(row))[0])
        for slots in (
            self._encoder, self._encode, self._features, self._spoken, self._backbone, self._decoder
        ):  # fmt: skip
            slots.end(row)
        return audio_S

    def hear(self, waveform_BS: Given, rows: Sequence[int] | None = None) -> list[Tensor]:
        """Hear the next samples of recorded speech (B,S), any number of them, one row for each row.

        At `codec.sample_rate_in`, for all rows by default. To the encoder, what a row hears is one recording,
        whatever it says in between. What fills no chunk (`codec.facts.chunk_samples_in`, and a chunk of the
        head) waits for the rest of it. Returns for each row the samples (S,) of what it had said that were
        still held back: at most `codec.facts.decoder.delay_samples`. Raises: AudioError; ArgumentError for
        rows that are not here; StreamingError for waveforms of other rows, or when the encoder does not
        stream.
        """
        rows = self._checked_rows(rows)
        waveform_BS = self._checked_waveform(waveform_BS)
        if len(waveform_BS) != len(rows):
            raise StreamingError(
                f"rows {rows} hear ({len(rows)}, S) samples, got {[*waveform_BS.shape]}; give each its own"
            )
        return self._audio(rows, self._heard(dict(zip(rows, waveform_BS, strict=True))), ())

    def read(self, tokens_BT: Given, rows: Sequence[int] | None = None) -> list[Tensor]:
        """Hear speech that is encoded already: tokens (B,T), whole chunks of the head, one row for each row.

        What was heard before and fills no chunk is forgotten. Returns as `hear`. Raises: ArgumentError for
        rows that are not here, and for what are no such tokens.
        """
        rows = self._checked_rows(rows)
        tokens_BT, _ = self._model.checked_tokens(tokens_BT)
        if len(tokens_BT) != len(rows):
            raise ArgumentError(f"{len(rows)} rows read ({len(rows)}, T) tokens, got {[*tokens_BT.shape]}")
        check_whole_prompt(tokens_BT.shape[1], self._model.chunk_tokens)
        for row in rows:
            self._rows[row].forget_unread()
        return self._audio(rows, dict(zip(rows, tokens_BT, strict=True)), ())

    def speak(self, rows: Sequence[int] | None = None) -> list[Tensor]:
        """Say what comes next: the next chunk of audio (S,) of each row, at `codec.sample_rate_out`.

        A chunk of the head or of the codec, whichever is longer, but as a decoder that lags holds the last
        `codec.facts.decoder.delay_samples` back, a row's first audio is shorter by those; `hear` and `leave`
        give them. Where the quantizer merges runs, lengths vary. Raises: ArgumentError for rows that are not
        here; StreamingError for rows that have heard nothing yet; CheckpointError when the model gives NaN.
        """
        rows = self._checked_rows(rows)
        silent = [row for row in rows if not self._rows[row].has_past]
        if silent:
            raise self._nothing_heard(silent)
        return self._audio(rows, {}, rows)

    def advance(self, heard: Mapping[int, Given] | None = None, *, speaking: Sequence[int] = ()) -> Advance:
        """Let rows hear, each its own samples (S,) of any number, and rows speak a chunk, all at once.

        A row that does both hears first. Rows that do neither rest. Returns what every one of them said, as
        `hear` and `speak` do, and which of them failed, of which no other hears. Raises: as `hear`, before
        anything is done.
        """
        given = {} if heard is None else heard
        waveforms = {}
        for row, waveform_S in zip(self._checked_rows([*given], least=0), given.values(), strict=True):
            waveform_1S = self._checked_waveform(waveform_S)
            if len(waveform_1S) != 1:
                raise StreamingError(f"row {row} hears (S,) samples, got {[*waveform_1S.shape]}")
            waveforms[row] = waveform_1S[0]
        speaking = self._checked_rows(speaking, least=0)
        return self._advance([*{**waveforms, **dict.fromkeys(speaking)}], self._heard(waveforms), speaking)

    def _audio(
        self, rows: Sequence[int], read: Mapping[int, Tensor], speaking: Sequence[int]
    ) -> list[Tensor]:
        audio, failed = self._advance(rows, read, speaking)
        for error in failed.values():
            raise error
        return [audio[row] for row in rows]

    @stream_mode()
    def _heard(self, waveforms: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Encode what rows hear; return the tokens (T,) of each that are whole chunks of the head, if any."""
        codec, chunk = self._model.codec, self._facts.chunk_samples_in
        whole = {}
        for row, waveform_S in waveforms.items():
            pieces = self._rows[row].whole_unheard(waveform_S, chunk)
            if len(pieces):
                whole[row] = pieces
        if not whole:
            return {}
        encoded = self._encode.advance(self._encoder.advance(whole))
        unit, found = prompt_unit(codec, self._model.chunk_tokens), {}
        for row, new_T in encoded.items():
            tokens_T = torch.cat([self._rows[row].unread_T, new_T])
            known = len(tokens_T)
            if self._merges:
                merged_1T, (count,) = codec.quantizer.compact(tokens_T[None])
                # The last run may go on.
                tokens_T, known = merged_1T[0], int(count) - 1
            ready = known // unit * unit
            self._rows[row].unread_T = tokens_T[ready:]
            if ready:
                found[row] = tokens_T[:ready]
        return found

    @stream_mode()
    def _advance(self, rows: Sequence[int], read: Mapping[int, Tensor], speaking: Sequence[int]) -> Advance:
        """Let rows read whole chunks of tokens (T,), and others speak, or the same ones then."""
        audio: dict[int, list[Tensor]] = {row: [] for row in rows}
        failed: dict[int, Exception] = {}
        alone = len(rows) == len(speaking) and not read
        ready = {} if alone and self._steps_whole(speaking) else self._read(read, speaking)
        silent = [row for row in speaking if not self._rows[row].has_past]
        failed |= {row: self._nothing_heard([row]) for row in silent}
        left = [row for row in speaking if row not in failed]
        while left or ready:
            if left:
                drawn, errors = self._draw(left)
                failed |= errors
                for row, features in self._say(drawn).items():
                    ready.setdefault(row, []).extend(features)
            decoded = self._decode(ready)
            for row, audio_S in decoded.items():
                audio[row].append(audio_S)
            # A chunk of the codec may be several of the head.
            left, ready = [row for row in left if row not in decoded and row not in failed], {}
            if left and not self._steps_whole(left):
                self._read({}, left)
        return Advance(
            {
                row: self._rows[row].silence() if not found else torch.cat(found)
                for row, found in audio.items()
            },
            failed,
        )

    def _read(self, read: Mapping[int, Tensor], speaking: Sequence[int]) -> dict[int, list[Tensor]]:
        """Let the backbone read these tokens, and what rows that will speak said last.

        Returns what the decoder is to read of the tokens.
        """
        waiting = [row for row in speaking if row not in read and self._rows[row].hidden_CD is None]
        acting = [*read, *(row for row in waiting if self._rows[row].has_past)]
        tokens = {}
        for row in acting:
            state = self._rows[row]
            unread_T = state.drawn_T if state.drawn_input is None else state.nothing_T
            tokens_T = torch.cat([unread_T, read[row]]) if row in read else unread_T
            if len(tokens_T):
                tokens[row] = tokens_T
        inputs = self._features.advance(tokens) if self._model.reads_features else tokens
        unread_inputs = {}
        for row in acting:
            drawn, new = self._rows[row].drawn_input, inputs.get(row)
            unread_inputs[row] = torch.cat([piece for piece in (drawn, new) if piece is not None])
        hidden = self._backbone.advance(unread_inputs) if acting else {}
        for row, hidden_TD in hidden.items():
            self._rows[row].have_read(hidden_TD[-self._model.chunk_tokens :])
        for row, tokens_T in read.items():
            self._rows[row].draw.read(tokens_T[None])
            self._rows[row].has_past = True
            self._note(row, tokens_T, spoken=False)
        return {row: [inputs[row]] for row in read} if self._shares_features else {row: [] for row in read}

    def _steps_whole(self, rows: Sequence[int]) -> bool:
        """Return whether reading what rows said and drawing what they say next is one step of an engine."""
        if self._model.chunk_engine is None or len(rows) != 1 or self._reads_apart:
            return False
        state = self._rows[rows[0]]
        unread = state.hidden_CD is None and len(state.drawn_T) > 0
        return unread and self._model.chunk_engine.takes(1, state.draw.sampler)

    def _step_whole(self, row: int) -> None:
        """Read what a row said and draw what it says next; where nothing can be drawn, only read."""
        engine, state = self._model.chunk_engine, self._rows[row]
        assert engine is not None
        read = state.drawn_T if state.drawn_input is None else state.drawn_input
        features = self._features.lend(row) if self._shares_features else ()
        chunk = engine(read[None], state.draw, features, self._backbone.lend(row), last=state.whole)
        self._backbone.take_back(row, chunk.backbone, len(read))
        if self._shares_features:
            self._features.take_back(row, chunk.features, chunk.tokens_BC.shape[1])
        if not chunk.found:
            state.have_read(chunk.hidden_BCD[0])
            return
        state.have_drawn(chunk.tokens_BC[0])
        state.whole, state.drawn_input = chunk, chunk.read[0] if self._shares_features else None

    def _draw(self, rows: Sequence[int]) -> tuple[dict[int, Tensor], dict[int, Exception]]:
        """Draw the next chunk of tokens (C,) of rows; return those, and why others have none."""
        states = [self._rows[row] for row in rows]
        if states[0].hidden_CD is None:
            self._step_whole(rows[0])
            if states[0].hidden_CD is None:
                return {rows[0]: states[0].drawn_T}, {}
        hidden = [state.hidden_CD for state in states if state.hidden_CD is not None]
        joined = JoinedDraw([state.draw for state in states])
        tokens_NC = self._model.head.propose(torch.stack(hidden), joined)
        drawn = {}
        for place, (row, state) in enumerate(zip(rows, states, strict=True)):
            if place not in joined.failed:
                drawn[row] = tokens_NC[place]
                state.have_drawn(tokens_NC[place])
        return drawn, {rows[place]: error for place, error in joined.failed.items()}

    def _say(self, drawn: Mapping[int, Tensor]) -> dict[int, list[Tensor]]:
        """Take note of what rows said; return what the decoder is to read of it, if that is features."""
        for row, tokens_C in drawn.items():
            self._note(row, tokens_C, spoken=True)
        if not self._shares_features:
            return {row: [] for row in drawn}
        undecoded = {row: tokens_C for row, tokens_C in drawn.items() if self._rows[row].drawn_input is None}
        for row, features_CD in self._features.advance(undecoded).items():
            self._rows[row].drawn_input = features_CD
        inputs = {row: self._rows[row].drawn_input for row in drawn}
        return {row: [features_CD] for row, features_CD in inputs.items() if features_CD is not None}

    def _note(self, row: int, tokens_T: Tensor, *, spoken: bool) -> None:
        """Count tokens that the decoder is to read, and keep them where it reads others than the backbone."""
        state = self._rows[row]
        if self._merges:
            tokens_T = self._model.codec.quantizer.expand(tokens_T[None])[0][0]
        first, state.tokens = state.tokens, state.tokens + len(tokens_T)
        if spoken:
            state.spoken.append((self._facts.samples_out(first), self._facts.samples_out(state.tokens)))
        if not self._shares_features:
            state.undecoded_T = torch.cat([state.undecoded_T, tokens_T])

    def _decode(self, ready: Mapping[int, Sequence[Tensor]]) -> dict[int, Tensor]:
        """Return what was spoken of the audio (S,) that rows' features, or tokens that wait, decode to."""
        features = {row: torch.cat([*pieces]) for row, pieces in ready.items() if pieces}
        if not self._shares_features:
            whole, chunk = {}, self._facts.chunk_tokens
            for row in ready:
                state = self._rows[row]
                size = len(state.undecoded_T) // chunk * chunk
                if size:
                    whole[row], state.undecoded_T = state.undecoded_T[:size], state.undecoded_T[size:]
            features = self._spoken.advance(whole) if whole else {}
        if not features:
            return {}
        return {row: self._rows[row].cut(audio_S) for row, audio_S in self._decoder.advance(features).items()}

    def _nothing_heard(self, rows: Sequence[int]) -> StreamingError:
        model = self._model
        least = chunk_in_words(model.codec, prompt_unit(model.codec, model.chunk_tokens))
        return StreamingError(
            f"rows {[*rows]} have not heard a whole chunk yet ({least}), and a model speaks on after what it "
            "heard: let them hear first"
        )

    def _checked_waveform(self, waveform_BS: Given) -> Tensor:
        codec = self._model.codec
        for part in (codec.encoder, codec.quantizer):
            if not part.config.facts().streams:
                raise part.no_streaming()
        return checked_waveform(waveform_BS, like=first_floats(codec.encoder, codec), wait=False)

    def _checked_rows(self, rows: Sequence[int] | None, *, least: int = 1) -> list[int]:
        """Return the given rows, or all. Raises: ArgumentError unless they are here, each of them once."""
        here = self.rows
        try:
            given = here if rows is None else [operator.index(row) for row in rows]
        except TypeError:
            given = [-1]
        if len(given) < least or len({*given}) < len(given) or not {*given} <= {*here}:
            raise ArgumentError(
                f"rows must be a list of some that are here, each once; got {rows}, but {here or 'none'} are "
                "here (`join` gives the number of one)"
            )
        return given


@dataclass
class _Row:
    """What is kept of a row besides the states of parts."""

    draw: TokenDraw
    nothing_T: Tensor
    samples: int
    """Samples that are decoded so far."""
    tokens: int = 0
    """Tokens, not merged, that the decoder was to read so far."""
    has_past: bool = False
    unheard_S: Tensor | None = None
    """Heard, but not encoded: less than a chunk of the codec."""
    unread_T: Tensor = field(init=False)
    """Encoded, but not read: less than a chunk of the head."""
    drawn_T: Tensor = field(init=False)
    """Drawn, but not read by the backbone yet."""
    drawn_input: Tensor | None = None
    """What the backbone is to read of it, if that is known already."""
    hidden_CD: Tensor | None = None
    """What the next chunk is drawn from, if the backbone has read all."""
    whole: WholeChunk | None = None
    """What was drawn last, if an engine drew it in one step."""
    undecoded_T: Tensor = field(init=False)
    spoken: list[tuple[int, int]] = field(default_factory=list)
    """Which of the samples that are not decoded yet were spoken: from, to."""

    def __post_init__(self) -> None:
        self.unread_T = self.drawn_T = self.undecoded_T = self.nothing_T

    def whole_unheard(self, waveform_S: Tensor, chunk: int) -> Tensor:
        """Return the samples that fill whole chunks, with those that waited; keep the rest."""
        if self.unheard_S is not None:
            waveform_S = torch.cat([self.unheard_S, waveform_S])
        whole = len(waveform_S) // chunk * chunk
        # A copy, so that a long recording is not kept for its end.
        self.unheard_S = waveform_S[whole:].clone() if whole < len(waveform_S) else None
        return waveform_S[:whole]

    def forget_unread(self) -> None:
        self.unread_T, self.unheard_S = self.nothing_T, None

    def have_read(self, hidden_CD: Tensor) -> None:
        self.hidden_CD, self.drawn_T, self.drawn_input, self.whole = hidden_CD, self.nothing_T, None, None

    def have_drawn(self, tokens_C: Tensor) -> None:
        self.hidden_CD, self.drawn_T, self.drawn_input, self.whole = None, tokens_C, None, None
        self.draw.end_chunk(tokens_C[None])

    def cut(self, audio_S: Tensor) -> Tensor:
        """Return what was spoken of the next decoded samples."""
        start = self.samples
        self.samples += len(audio_S)
        spans = [(max(0, first - start), max(0, last - start)) for first, last in self.spoken]
        self.spoken = [(first, last) for first, last in self.spoken if last > self.samples]
        pieces = [audio_S[first:last] for first, last in spans]
        return pieces[0] if len(pieces) == 1 else torch.cat([audio_S[:0], *pieces])

    def silence(self) -> Tensor:
        return torch.zeros(0, device=self.nothing_T.device)


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
