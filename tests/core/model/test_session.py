"""Sessions: what streams is what is generated offline, rows come and go, and nothing grows."""

import random
from itertools import islice

import pytest
import torch
from torch import Tensor

from wavslm_core import SpeechLM
from wavslm_core.errors import ArgumentError, AudioError, RecipeError, StreamingError
from wavslm_core.model.session import Session
from wavslm_core.parts.facts import SamplerFacts
from wavslm_core.parts.interfaces import Sampler, SamplingContext
from wavslm_core.parts.slots import Slots
from wavslm_core.testing.fake_configs import FakeSamplerConfig
from wavslm_core.testing.fakes import fake_codec, fake_speech_lm

CHUNK = 1280
GREEDY = {"name": "greedy"}


def recorded(chunks: int, *, seed: int = 0) -> Tensor:
    """Return speech (S,) of whole chunks, frames of which repeat."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(4 * chunks, 320, generator=generator) / 4
    lasts = torch.randint(1, 5, (4 * chunks,), generator=generator)
    return frames.repeat_interleave(lasts, dim=0)[: 4 * chunks].flatten()


def close(given: Tensor, expected: Tensor) -> bool:
    return given.shape == expected.shape and torch.allclose(given, expected, atol=1e-5)


class Conversation:
    """One row of a session, and all of what it heard and said."""

    def __init__(self, session: Session, *, seed: int) -> None:
        self.session, self.row = session, session.join(seed=seed)
        self.said: list[Tensor] = []

    def hear(self, waveform_S: Tensor) -> None:
        self.said += self.session.hear(waveform_S, [self.row])

    def speak(self, times: int = 1) -> None:
        for _ in range(times):
            self.said += self.session.speak([self.row])

    def leave(self) -> Tensor:
        return torch.cat([*self.said, self.session.leave(self.row)])


def model_of(**options: object) -> SpeechLM:
    """Return fakes; those that are not of the codec are of the language model."""
    torch.manual_seed(0)
    lm = {key: options.pop(key) for key in ("reads", "chunk_tokens") if key in options}
    return fake_speech_lm(fake_codec(**options), **lm)  # type: ignore[arg-type]


@pytest.mark.parametrize("chunks", [[6], [1] * 6, [2, 1, 3]])
@pytest.mark.parametrize("options", [
    {},
    {"delay_samples": 700},
    {"delay_samples": 3000},
    {"reads": "embedding", "chunk_tokens": 1},
    {"reads": "embedding", "chunk_tokens": 3},
    {"chunk_tokens": 8},
    {"max_run": 4, "bits": 3, "delay_samples": 700},
    {"max_run": 4, "bits": 3, "reads": "embedding"},
])  # fmt: skip
def test_hearing_and_speaking_is_generating_and_decoding(
    options: dict[str, object], chunks: list[int]
) -> None:
    model = model_of(**options)
    prompt = recorded(6)
    conversation = Conversation(model.session(), seed=5)
    for piece in prompt.split([CHUNK * count for count in chunks]):
        conversation.hear(piece)
    conversation.speak(9)
    said = conversation.leave()
    tokens, _ = model.encode_prompt(prompt, sample_rate=16000)
    new, _ = model.generate_speech(tokens, samples=said.numel(), seed=5)
    offline = model.decode_continuation(tokens, new)[0]
    assert said.numel() >= 8 * CHUNK
    assert close(said, offline[: said.numel()])


@pytest.mark.parametrize("reads", ["features", "embedding"])
@pytest.mark.parametrize("delay", [0, 700, 3000])
def test_rows_hear_more_while_they_speak(delay: int, reads: str) -> None:
    """In any order: what is said next is what comes after all that was heard and said until then."""
    model = model_of(delay_samples=delay, reads=reads)
    session = model.session(sampler=GREEDY)
    conversation = Conversation(session, seed=0)
    heard = recorded(9)
    tokens = torch.zeros(1, 0, dtype=torch.int64)
    spoken: list[slice] = []
    encoded = model.codec.encode(heard).split(4, dim=1)
    for number, (waveform, codes) in enumerate(zip(heard.split(CHUNK), encoded, strict=True)):
        conversation.hear(waveform)
        tokens = torch.cat([tokens, codes], dim=1)
        times = number % 3
        conversation.speak(times)
        new = model.generate(tokens, new_tokens=4 * times, sampler=GREEDY)
        size = tokens.shape[1]
        spoken.append(slice(320 * size, 320 * (size + new.shape[1])))
        tokens = torch.cat([tokens, new], dim=1)
    audio = model.codec.decode(tokens)[0]
    assert close(conversation.leave(), torch.cat([audio[piece] for piece in spoken]))


def test_what_is_said_goes_on_when_nothing_was_heard_in_between() -> None:
    """A row that is read its own seed again would say the same again."""
    model = model_of()
    once, twice = Conversation(model.session(), seed=3), Conversation(model.session(), seed=3)
    for each in (once, twice):
        each.hear(recorded(2))
    once.speak(6)
    twice.speak(2)
    twice.speak(4)
    assert torch.equal(once.leave(), twice.leave())


@pytest.mark.parametrize("max_run", [1, 4])
def test_rows_come_and_go_and_none_hears_of_it(max_run: int) -> None:
    """Rows join, hear, speak and leave at random, some in one call; each says what it says alone."""
    model = model_of(bits=3, delay_samples=200, max_run=max_run)
    session = model.session()
    chance = random.Random(0)
    here: list[Conversation] = []
    alone: dict[int, Conversation] = {}
    finished = together = 0
    batches: list[int] = []
    model.backbone.gru.register_forward_hook(lambda _module, inputs, _output: batches.append(len(inputs[0])))
    for step in range(150):
        if len(here) < 3:
            for seed in (step, step + 1):
                here.append(Conversation(session, seed=seed))
                alone[here[-1].row] = Conversation(model.session(), seed=seed)
        acting = chance.sample(here, len(here) if chance.random() < 0.7 else 1)
        heard = all(alone[each.row].said for each in acting)
        batches.clear()
        if heard and chance.random() < 0.6:
            audios = session.speak([each.row for each in acting])
            together += bool(batches) and batches[0] == len(acting) > 1
            for each, audio in zip(acting, audios, strict=True):
                each.said.append(audio)
                alone[each.row].speak()
        else:
            waveform = torch.stack([recorded(6, seed=step + each.row) for each in acting])
            if heard:
                waveform = waveform[:, : chance.choice([6 * CHUNK, 2 * CHUNK, 3 * CHUNK + 77, CHUNK // 2])]
            audios = session.hear(waveform, [each.row for each in acting])
            for each, audio, own in zip(acting, audios, waveform, strict=True):
                each.said.append(audio)
                alone[each.row].hear(own)
        if chance.random() < 0.15:
            leaver = here.pop(chance.randrange(len(here)))
            assert close(leaver.leave(), alone[leaver.row].leave())
            finished += 1
    assert finished > 10
    assert together > 10
    assert session.rows == sorted(each.row for each in here)
    for each in here:
        assert close(each.leave(), alone[each.row].leave())
    assert session.rows == []


def batches_of(model: SpeechLM) -> dict[str, list[int]]:
    """Return how many rows each step of the parts has had, from now on."""
    sizes: dict[str, list[int]] = {}
    codec = model.codec
    parts = {
        "encoder": codec.encoder.linear,
        "backbone": model.backbone.gru,
        "head": model.head.linear,
        "decoder": codec.decoder.linear,
    }

    def count(name: str, inputs: tuple[Tensor, ...]) -> None:
        sizes.setdefault(name, []).append(len(inputs[0]))

    for name, part in parts.items():
        part.register_forward_hook(lambda _module, inputs, _output, name=name: count(name, inputs))
    return sizes


def test_rows_that_act_together_are_one_batch_also_after_they_parted() -> None:
    model = model_of()
    sizes = batches_of(model)
    session = model.session()
    rows = [session.join(seed=seed) for seed in range(3)]
    session.hear(recorded(6).view(3, -1))
    session.speak()
    session.speak()
    assert sizes["backbone"] == [3, 3]
    sizes["backbone"].clear()
    session.speak(rows[:2])
    session.speak()
    session.leave(rows[0])
    session.speak()
    # What the others said before is read when they speak again.
    assert sizes["backbone"] == [2, 3, 2]


def test_rows_that_hear_and_rows_that_speak_share_a_step_of_every_part() -> None:
    model = model_of(delay_samples=700)
    session, others = model.session(), [model.session() for _ in range(4)]
    rows = [session.join(seed=seed) for seed in range(4)]
    heard = recorded(24).view(4, -1)
    for row, other in zip(rows, others, strict=True):
        # They are at different places of their streams.
        piece = heard[row : row + 1, : (row + 1) * CHUNK]
        other.join(seed=row)
        other.hear(piece)
        session.hear(piece, [row])
    for each in (session, *others[:3]):
        each.speak([0, 1, 2] if each is session else None)
    sizes = batches_of(model)
    given, failed = session.advance({2: heard[2, :CHUNK], 3: heard[3, :CHUNK]}, speaking=[0, 1])
    assert failed == {}
    # What row 2 said before, and what it heard then.
    assert sizes == {"encoder": [2], "backbone": [4, 1], "head": [2], "decoder": [4]}
    for row, other in enumerate(others):
        (expected,) = other.speak() if row < 2 else other.hear(heard[row : row + 1, :CHUNK])
        assert close(given[row], expected)
    for row, audio in zip(rows, session.speak(), strict=True):
        assert close(audio, others[row].speak()[0])


def test_a_row_that_does_both_hears_first() -> None:
    model = model_of(delay_samples=700)
    session, other = model.session(), model.session()
    for each in (session, other):
        each.join(seed=2)
    heard = recorded(10)
    for piece in heard.split(2 * CHUNK):
        (held,) = other.hear(piece)
        (said,) = other.speak()
        given, _ = session.advance({0: piece}, speaking=[0])
        assert close(given[0], torch.cat([held, said]))


@pytest.mark.parametrize("sizes", [[100] * 77, [CHUNK + 1] * 5 + [CHUNK - 5], [7000, 1, 679]])
def test_any_number_of_samples_is_heard(sizes: list[int]) -> None:
    """And what fills no chunk is kept, also if the row speaks before it is full."""
    model = model_of()
    heard = recorded(6)
    assert sum(sizes) >= heard.numel()
    session, whole = model.session(), model.session()
    for each in (session, whole):
        each.join(seed=1)
        each.hear(recorded(1, seed=8))
    for piece in heard.split(sizes if sum(sizes) == heard.numel() else sizes[0]):
        session.hear(piece)
    whole.hear(heard)
    assert close(session.speak()[0], whole.speak()[0])
    session.hear(heard[:77])
    assert close(session.speak()[0], whole.speak()[0])
    session.hear(heard[77:CHUNK])
    whole.hear(heard[:CHUNK])
    assert close(session.speak()[0], whole.speak()[0])


@pytest.mark.parametrize("options", [{}, {"max_run": 4, "bits": 3}, {"chunk_tokens": 8}])
def test_what_is_said_equals_continue_speech_whoever_else_is_there(options: dict[str, object]) -> None:
    model = model_of(delay_samples=700, **options)
    session = model.session()
    # Where runs are merged, what fills no chunk tells offline whether the last one goes on.
    more = 0 if "max_run" in options else 99
    prompts = [recorded(7 + row, seed=row)[: (6 + row) * CHUNK + more * row] for row in range(4)]
    rows = [session.join(seed=10 + row) for row in range(4)]
    said: dict[int, list[Tensor]] = {row: [] for row in rows}
    for tick in range(36):
        # One after the other begins, in pieces of its own, and speaks when it has heard all.
        heard = {
            row: prompts[row][(start := (tick - row) * 1500) : start + 1500] for row in rows if row <= tick
        }
        heard = {row: piece for row, piece in heard.items() if len(piece)}
        speaking = [row for row in rows if row <= tick and row not in heard]
        for row, audio in session.advance(heard, speaking=speaking).audio.items():
            said[row].append(audio)
    for row, prompt in enumerate(prompts):
        audio = torch.cat(said[row])
        offline = model.continue_speech(prompt, sample_rate=16000, seconds=3.0, seed=10 + row)[0]
        assert audio.numel() > 15 * CHUNK
        assert close(audio[: offline.numel()], offline[: audio.numel()])


class Watcher(Sampler):
    """Leaves the distribution alone and keeps what it was shown."""

    def __init__(self, *, candidates: int = 1) -> None:
        class Config(FakeSamplerConfig):
            def facts(self) -> SamplerFacts:
                return SamplerFacts(history_tokens=12, candidates=candidates)

        super().__init__(Config())
        self.seen: list[SamplingContext] = []

    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        self.seen.append(context)
        return logits_NV


def test_each_row_has_its_own_sampler_which_sees_what_was_heard_and_said() -> None:
    model = model_of()
    watcher = Watcher()
    session = model.session(sampler=GREEDY)
    first, second = session.join(), session.join(sampler=watcher, seed=2)
    tokens = torch.randint(32, (2, 12))
    session.read(tokens)
    drawn = session.speak([first, second])
    expected = model.generate(tokens[:1], new_tokens=4, sampler=GREEDY)
    assert close(drawn[0], model.decode_continuation(tokens[:1], expected)[0])
    new = model.generate(tokens[1:], new_tokens=4, seed=2)
    session.read(tokens[:, :4])
    session.speak()
    before, after = watcher.seen
    assert before.history_NH[0].tolist() == tokens[1].tolist()
    assert after.history_NH[0].tolist() == [
        *tokens[1, 8:].tolist(),
        *new[0].tolist(),
        *tokens[1, :4].tolist(),
    ]
    assert (before.positions_N.tolist(), after.positions_N.tolist()) == ([0, 1, 2, 3], [4, 5, 6, 7])


class Breaking(Watcher):
    """Works once."""

    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        if self.seen:
            raise ZeroDivisionError("no more")
        return super().adjust(logits_NV, context)


def test_no_other_row_hears_of_one_that_fails() -> None:
    model = model_of(delay_samples=700)
    session, other = model.session(), model.session()
    sound, broken, silent = session.join(seed=1), session.join(sampler=Breaking()), session.join(seed=3)
    other.join(seed=1)
    heard = recorded(4)
    other.hear(heard)
    session.hear(heard.expand(2, -1), [sound, broken])
    expected = [other.speak()[0] for _ in range(4)]
    assert close(session.advance(speaking=[broken, sound]).audio[sound], expected[0])
    given, failed = session.advance({silent: heard[:100]}, speaking=[sound, broken, silent])
    assert close(given[sound], expected[1])
    assert given[broken].numel() == given[silent].numel() == 0
    assert {row: type(error) for row, error in failed.items()} == {
        broken: ZeroDivisionError,
        silent: StreamingError,
    }
    with pytest.raises(ZeroDivisionError, match="no more"):
        session.speak([broken])
    session.leave(broken)
    # One that was silent goes on: it had heard 100 samples already.
    given, failed = session.advance({silent: heard[100:]}, speaking=[sound, silent])
    assert failed == {}
    assert close(given[sound], expected[2])
    again = model.session()
    again.join(seed=3)
    again.hear(heard)
    assert close(given[silent], again.speak()[0])
    assert close(session.speak([sound])[0], expected[3])


def test_nothing_grows() -> None:
    model = model_of(delay_samples=700)
    session = model.session()
    rows = [session.join(seed=seed) for seed in range(2)]
    sizes = []
    for _ in range(40):
        session.hear(recorded(2).view(2, -1))
        session.speak(rows[:1])
        session.speak(rows[1:])
        session.speak()
        held = [value for row in session._rows.values() for value in vars(row).values()]
        tensors = [value for value in held if isinstance(value, Tensor)]
        slots = [value for value in vars(session).values() if isinstance(value, Slots)]
        states = [kept.tensor for each in slots for kept in each._kept]
        lists = [value for value in held if isinstance(value, list)]
        sizes.append([*(tensor.numel() for tensor in tensors + states), *map(len, lists)])
    assert len(sizes[0]) > 10
    assert all(size == sizes[5] for size in sizes[5:])


def test_a_head_with_longer_chunks_waits_for_the_rest_also_if_it_speaks_meanwhile() -> None:
    model = model_of(chunk_tokens=8)
    session, other = model.session(), model.session()
    row = session.join(seed=3)
    other.join(seed=3)
    heard = recorded(7)
    session.hear(heard[:CHUNK])
    with pytest.raises(StreamingError, match=r"rows \[0\] have not heard a whole chunk yet \(160 ms\)"):
        session.speak()
    session.hear(heard[CHUNK : 3 * CHUNK])
    other.hear(heard[: 2 * CHUNK])
    assert torch.equal(session.speak([row])[0], other.speak()[0])
    session.hear(heard[3 * CHUNK :])
    # The third chunk was waiting.
    other.hear(heard[2 * CHUNK : 6 * CHUNK])
    for _ in range(3):
        assert torch.equal(session.speak([row])[0], other.speak()[0])


def test_what_cannot_be_meant_is_refused_and_changes_nothing() -> None:
    model = model_of()
    session = model.session()
    with pytest.raises(
        ArgumentError, match=r"got None, but none are here \(`join` gives the number of one\)"
    ):
        session.speak()
    row = session.join(seed=1)
    other = session.join(seed=2)
    with pytest.raises(StreamingError, match=r"rows \[0, 1\] have not heard a whole chunk yet \(80 ms\)"):
        session.speak()
    session.hear(recorded(4).view(2, -1))
    for rows in ([7], [row, row], [], row, "ab", [None]):
        for call in (
            lambda rows: session.hear(recorded(1), rows),
            session.speak,
            lambda rows: session.read([0] * 4, rows),
        ):
            with pytest.raises(ArgumentError, match=r"each once; got .*, but \[0, 1\] are here"):
                call(rows)
    with pytest.raises(StreamingError, match=r"rows \[0\] hear \(1, S\) samples, got \[2, 1280\]; give"):
        session.hear(recorded(2).view(2, -1), [row])
    with pytest.raises(StreamingError, match=r"row 0 hears \(S,\) samples, got \[2, 1280\]"):
        session.advance({row: recorded(2).view(2, -1)}, speaking=[other])
    for wrong_rows in ({"heard": {7: recorded(1)}}, {"speaking": [row, row]}, {"speaking": 3}):
        with pytest.raises(ArgumentError, match=r"each once; got .*, but \[0, 1\] are here"):
            session.advance(**wrong_rows)
    with pytest.raises(AudioError, match="NaN"):
        session.hear(torch.full((2, CHUNK), torch.nan))
    with pytest.raises(
        ArgumentError, match=r"whole chunks of 4 tokens, at least one; got 6 tokens. Cut it to 4"
    ):
        session.read([[0] * 6] * 2)
    with pytest.raises(ArgumentError, match=r"2 rows read \(2, T\) tokens, got \[1, 4\]"):
        session.read([0] * 4)
    with pytest.raises(RecipeError, match="no sampler is called"):
        session.join(sampler={"name": "louder"})
    with pytest.raises(ArgumentError, match="a seed must be an integer"):
        session.join(seed=1.5)  # type: ignore[arg-type]
    for refused in (model.session, session.join):
        with pytest.raises(StreamingError, match=r"use generate\(\)"):
            refused(sampler=Watcher(candidates=2))
    assert session.rows == [row, other]
    untouched = model.session()
    untouched.join(seed=1)
    untouched.join(seed=2)
    untouched.hear(recorded(4).view(2, -1))
    for _ in range(3):
        for given, expected in zip(session.speak(), untouched.speak(), strict=True):
            assert torch.equal(given, expected)
    session.leave(row)
    with pytest.raises(ArgumentError, match=r"got \[0\], but \[1\] are here"):
        session.leave(row)


def test_stream_is_a_session_whose_rows_all_speak() -> None:
    model = model_of(delay_samples=200)
    tokens = torch.randint(32, (2, 8))
    session = model.session()
    for seed in (3, 4):
        session.join(seed=seed)
    session.read(tokens)
    for piece in islice(model.stream(tokens, seed=3), 5):
        assert torch.equal(piece, torch.stack(session.speak()))
