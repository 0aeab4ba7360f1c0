"""The engine `cuda_graphs`: all around a recording, on the CPU; recordings themselves on a GPU, if any."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from wavslm_core.errors import WavslmError
from wavslm_core.model.codec import Codec
from wavslm_core.model.inference import EngineStep, ways
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.parts.engines import Engine
from wavslm_core.parts.interfaces import State
from wavslm_core.parts.plugins import load_registry
from wavslm_cuda_graphs.engine import RecordedStep, compiled

CHUNK, VOCABULARY = 4, 256
MINUTE = 3000
"""Tokens of a minute: rings of all sizes in the model wrap many times."""
ROWS = (1, 3)
replays: list[str] = []

pytestmark = pytest.mark.slow


def repeated(step: nn.Module, x: Tensor, state: State, *, weights: str) -> RecordedStep:
    """The engine with calls that are made again in the place of a recording: all but the GPU."""
    named = type(getattr(step, "part", step)).__name__

    def record(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def replay() -> Tensor:
            replays.append(f"{named} {len(x)}")
            return call()

        return replay

    return RecordedStep(step, x, state, record=record, named=named)


@pytest.fixture(scope="module")
def fast(model: SpeechLM) -> SpeechLM:
    """The model with steps of one row and of three."""
    by = "tests", "1", "tests"
    held = Engine(
        "repeated", f"{__name__}:repeated", ("fp32",), "For tests.", *by, whole_chunks=True, any_rows=True
    )
    registry = load_registry()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_engines", {"repeated": held})
        return model.for_inference(engine="repeated", rows=ROWS)


def prompt(rows: int) -> Tensor:
    return torch.arange(2 * CHUNK * rows).view(rows, -1)


@pytest.mark.parametrize("rows", [1, 3])
def test_tokens_are_those_of_torch(model: SpeechLM, fast: SpeechLM, rows: int) -> None:
    """One row and a batch, each in whole steps, with the same random numbers."""
    replays.clear()
    expected = model.generate(prompt(rows), new_tokens=400, seed=3)
    assert torch.equal(fast.generate(prompt(rows), new_tokens=400, seed=3), expected)
    assert replays[-99:] == [f"ChunkStep {rows}"] * 99
    # The first chunk is drawn from what was read.
    assert replays[:-99] == [f"FocalCodecStream {rows}"]
    assert len(expected.unique()) > VOCABULARY // 4


def conversation(way: SpeechLM) -> list[Tensor]:
    """Return what rows of a session say that join, hear more, rest and leave."""
    acting = [[0, 1, 2]] * 4 + [[0]] * 3 + [[0, 1]] * 3 + [[1]] * 9 + [[0]] * 5 + [[1, 0, 2]] * 2
    acting += [[2]] * 12 + [[0]] * 3
    session, pieces = way.session(), []
    for row in range(3):
        session.join(seed=row)
    session.read(prompt(1).repeat(3, 1))
    for turn, rows in enumerate(acting):
        if turn == 29:
            pieces.append(session.leave(1))
        if turn in (6, 16):
            pieces += session.read(prompt(1), rows)
        pieces += session.speak(rows)
    return pieces


def require_same(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0.0)


def test_rows_join_rest_and_leave(model: SpeechLM, fast: SpeechLM) -> None:
    """Steps of one row and of three, and those of torch between, over the same states."""
    replays.clear()
    require_same(conversation(fast), conversation(model))
    assert {"ChunkStep 1", "WavLMUpper 3", "FocalCodecStream 3"} <= {*replays}, {*replays}


def streamed(codec: Codec, rows: int) -> list[Tensor]:
    """Return the tokens and the audio of streams of so many rows."""
    stream, chunk = codec.stream(batch_size=rows), codec.facts.chunk_samples_in
    waveform = 0.1 * torch.randn(rows, 9 * chunk, generator=torch.Generator().manual_seed(rows))
    tokens = [stream.encode(piece) for piece in waveform.split(chunk, dim=1)]
    return tokens + [stream.decode(torch.arange(4).repeat(rows, 1) + turn) for turn in range(9)]


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_codec_streams_one_row_and_batches(model: SpeechLM, fast: SpeechLM, rows: int) -> None:
    expected = streamed(model.codec, rows)
    replays.clear()
    require_same(streamed(fast.codec, rows), expected)
    # The very first step of a stream is torch's, and of rows that nobody asked for every step.
    assert len(replays) == (0 if rows == 2 else 4 * 8)


class Counting(nn.Module):
    """The least that is a step: a sum, a position, and how many numbers were seen."""

    def forward(self, x: Tensor, total: Tensor, position: Tensor, seen: Tensor) -> tuple[Tensor, ...]:
        total = total + x.sum(dim=1, keepdim=True)
        return total * position, total, position + x.shape[1], seen + 1


def counting(start: int = 4) -> tuple[RecordedStep, State]:
    state = (torch.zeros(1, 1), torch.tensor(start), torch.zeros(1, 1))
    return repeated(Counting(), torch.ones(1, 4), state, weights="fp32"), state  # type: ignore[arg-type]


def test_streams_take_turns_and_keep_their_states() -> None:
    step, state = counting()
    streams = [tuple(tensor + number if tensor.dim() else tensor for tensor in state) for number in range(3)]
    expected = [*streams]
    for turn in (0, 0, 1, 2, 2, 0, 1, 1, 0, 2):
        x = torch.rand(1, 4)
        y, streams[turn] = step(x, streams[turn])
        found, *left = Counting()(x, *expected[turn])
        expected[turn] = tuple(left)
        assert torch.equal(y, found)
        for stream, known in zip(streams, expected, strict=True):
            assert all(map(torch.equal, stream, known))


def test_what_goes_on_lies_where_it_lay_and_what_torch_wrote_there_counts() -> None:
    step, state = counting()
    _, state = step(torch.ones(1, 4), state)
    places = [tensor.data_ptr() for tensor in state if tensor.dim()]
    state[0].add_(10)
    y, state = step(torch.ones(1, 4), (state[0], torch.tensor(100), state[2]))
    assert float(y) == (4 + 10 + 4) * 100
    assert int(state[1]) == 104
    assert [tensor.data_ptr() for tensor in state if tensor.dim()] == places
    # One tensor of another stream moves alone.
    kept = state[0]
    _, state = step(torch.ones(1, 4), (torch.zeros(1, 1), state[1], state[2]))
    assert float(kept) == 18
    assert [float(state[0]), float(state[2])] == [4, 3]
    assert [tensor.data_ptr() for tensor in state if tensor.dim()] == places


def test_states_that_nobody_has_are_not_kept() -> None:
    step, state = counting()
    _, first = step(torch.ones(1, 4), state)
    del first
    gc.collect()
    assert [lent() for lent in step._lent] == [None] * 3
    assert step(torch.ones(1, 4), state)[1][0] == 4


def test_positions_lie_on_the_cpu() -> None:
    step, state = counting(start=7)
    for turn in range(1, 4):
        _, state = step(torch.ones(1, 4), state)
        assert state[1].device.type == "cpu"
        assert state[1].dtype == torch.int64
        assert int(state[1]) == 7 + 4 * turn


class Doubling(nn.Module):
    def forward(self, x: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        return x * number, number * 2


def test_a_number_that_is_no_position_is_refused() -> None:
    with pytest.raises(
        WavslmError, match=r"a number of its state is no position, .* \[4\] early and \[1004\] late"
    ):
        repeated(Doubling(), torch.ones(1, 4), (torch.tensor(4),), weights="fp32")


def test_a_state_elsewhere_is_refused() -> None:
    state = (torch.zeros(1, 1), torch.tensor(4), torch.zeros(1, 1, device="meta"))
    with pytest.raises(WavslmError, match=r"of Counting: its state holds \[1, 1\] torch.float32 on meta"):
        repeated(Counting(), torch.ones(1, 4), state, weights="fp32")


def test_what_cannot_be_recorded_says_so() -> None:
    def record(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing")

    state = (torch.zeros(1, 1), torch.tensor(4), torch.zeros(1, 1))
    with pytest.raises(WavslmError, match=r"cannot record the step of Counting: .* capturing\. Leave"):
        RecordedStep(Counting(), torch.ones(1, 4), state, record=record, named="Counting")


def test_on_the_cpu_it_says_what_to_do(model: SpeechLM) -> None:
    missing = "" if torch.cuda.is_available() else "; PyTorch sees none here"
    with pytest.raises(
        WavslmError, match=f"on a CUDA GPU{missing}, but the step of Counting is on cpu.*cuda"
    ):
        compiled(Counting(), torch.ones(1, 4), (), weights="fp32")
    with pytest.raises(WavslmError, match="the engine cuda_graphs computes on cuda, but the model is on cpu"):
        model.for_inference(engine="cuda_graphs")


def test_auto_takes_it_on_gpus_alone() -> None:
    assert "cuda_graphs" not in {way.engine for way in ways("auto", "auto")}
    allowed = ways("auto", "auto", device="cuda", rows=(1, 4))
    assert [str(way) for way in allowed] == ["fp32, torch", "fp32, cuda_graphs"]


on_gpus = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA GPU here")


@pytest.fixture(scope="module")
def on_gpu(other_model: SpeechLM) -> Iterator[tuple[SpeechLM, SpeechLM]]:
    """A model on a GPU, as it is and with recorded steps; convolutions in whole fp32, as products are."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        moved = other_model.to("cuda")
        yield moved, moved.for_inference(engine="cuda_graphs", rows=ROWS)


@on_gpus
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_on_a_gpu_tokens_are_those_of_torch(on_gpu: tuple[SpeechLM, SpeechLM], rows: int) -> None:
    """For a minute, long after all windows are full; rounding may change a token, and so all after it."""
    plain, fast = on_gpu
    assert isinstance(fast.backbone.step, EngineStep)
    assert fast.chunk_engine is not None
    expected = plain.generate(prompt(rows), new_tokens=MINUTE, seed=3)
    assert expected.is_cuda
    found = fast.generate(prompt(rows), new_tokens=MINUTE, seed=3)
    assert torch.equal(found[:, :100], expected[:, :100])
    assert (found == expected).float().mean() > 0.5


@on_gpus
def test_on_a_gpu_rows_join_rest_and_leave(on_gpu: tuple[SpeechLM, SpeechLM]) -> None:
    plain, fast = on_gpu
    require_same(conversation(fast), conversation(plain))


@on_gpus
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_on_a_gpu_a_codec_streams_one_row_and_batches(on_gpu: tuple[SpeechLM, SpeechLM], rows: int) -> None:
    plain, fast = on_gpu
    require_same(streamed(fast.codec, rows), streamed(plain.codec, rows))
