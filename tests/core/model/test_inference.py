"""Models for inference: engines step what torch steps, and what is fastest is found out once a machine."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wavslm_core import SpeechLM
from wavslm_core.errors import PluginError, WavslmError
from wavslm_core.machine.timings import FOLDER_VARIABLE
from wavslm_core.model import inference
from wavslm_core.model.inference import EngineStep, Way, cpu_only, packed, ways, worth_taking
from wavslm_core.parts.engines import Engine
from wavslm_core.parts.interfaces import State
from wavslm_core.parts.plugins import load_registry
from wavslm_core.testing.fakes import fake_codec, fake_speech_lm
from wavslm_core.testing.gpu import gpu

CHUNK = 1280
calls: list[str] = []


def exported(step: nn.Module, x: Tensor, state: State, *, weights: str) -> Callable[..., Any]:
    """An engine: graphs of `torch.export`, as they are."""
    graph = torch.export.export(step.eval(), (x, *state)).module()

    def run(x: Tensor, state: State) -> tuple[Tensor, State]:
        calls.append(weights)
        y, *next_state = graph(x, *state)
        return y, tuple(next_state)

    return run


def wrong(step: nn.Module, x: Tensor, state: State, *, weights: str) -> Callable[..., Any]:
    """An engine that forgets a factor."""
    run = exported(step, x, state, weights=weights)

    def doubled(x: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = run(x, state)
        return (2 * y if y.is_floating_point() else y), state

    return doubled


def confused(step: nn.Module, x: Tensor, state: State, *, weights: str) -> Callable[..., Any]:
    """An engine that takes one token for another."""
    run = exported(step, x, state, weights=weights)

    def next_ones(x: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = run(x, state)
        return (y if y.is_floating_point() else y + 1), state

    return next_ones


@pytest.fixture(autouse=True)
def _registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    registry = load_registry()
    held = {
        name: Engine(name, f"{__name__}:{name}", ("fp32",), "For tests.", "tests", "1", "tests")
        for name in ("exported", "wrong")
    }
    monkeypatch.setattr(registry, "_engines", {"exported": held["exported"]})
    calls.clear()


@pytest.fixture
def model() -> SpeechLM:
    torch.manual_seed(0)
    return fake_speech_lm(fake_codec()).eval()


def recorded(chunks: int) -> Tensor:
    return 0.1 * torch.randn(1, chunks * CHUNK, generator=torch.Generator().manual_seed(0))


def said(model: SpeechLM, waveform: Tensor, *, turns: int) -> Tensor:
    """Hear and speak by turns, one chunk or two."""
    session = model.session()
    session.join(seed=3)
    pieces: list[Tensor] = []
    for turn, piece in enumerate(waveform.split(CHUNK * 2, dim=1)):
        pieces += session.hear(piece if turn % 2 else piece[:, :CHUNK])
        pieces += [audio for _ in range(turns) for audio in session.speak()]
    return torch.cat([*pieces, session.leave(0)])


def test_what_an_engine_says_is_what_torch_says(model: SpeechLM) -> None:
    waveform = recorded(12)
    fast = model.for_inference(engine="exported")
    before = len(calls)
    assert torch.allclose(said(fast, waveform, turns=3), said(model, waveform, turns=3), atol=1e-5)
    assert len(calls) - before > 20
    tokens = model.codec.encode(waveform)
    assert torch.equal(
        fast.generate(tokens, new_tokens=40, seed=1), model.generate(tokens, new_tokens=40, seed=1)
    )
    assert torch.equal(fast.log_probs(tokens).nan_to_num(), model.log_probs(tokens).nan_to_num())


def test_streams_of_a_codec_are_what_it_gives_offline(model: SpeechLM) -> None:
    fast, waveform = model.codec.for_inference(engine="exported"), recorded(9)
    stream = fast.stream()
    tokens = torch.cat([stream.encode(piece) for piece in waveform.split(CHUNK, dim=1)], dim=1)
    assert torch.equal(tokens, model.codec.encode(waveform))
    rows = fast.stream(batch_size=2)
    before = len(calls)
    both = torch.cat([rows.encode(piece.repeat(2, 1)) for piece in waveform.split(CHUNK, dim=1)], dim=1)
    assert torch.equal(both, tokens.repeat(2, 1))
    assert len(calls) == before, "an engine is made for one row"


def test_as_many_rows_as_were_asked_for_step_through_an_engine(
    model: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = replace(load_registry().engines()[0], any_rows=True)
    monkeypatch.setattr(load_registry(), "_engines", {"exported": several})
    fast, waveform = model.codec.for_inference(engine="exported", rows=(2, 3, 2)), recorded(9)
    for rows in (1, 2, 3, 4):
        stream, before = fast.stream(batch_size=rows), len(calls)
        pieces = [stream.encode(piece.repeat(rows, 1)) for piece in waveform.split(CHUNK, dim=1)]
        assert torch.equal(torch.cat(pieces, dim=1), model.codec.encode(waveform).repeat(rows, 1))
        assert (len(calls) > before) == (rows in (2, 3))
    assert [str(way) for way in ways("fp32", "auto", rows=(4,))] == ["fp32, torch", "fp32, exported"]


def test_rows_do_not_matter_to_torch_and_rule_out_engines_of_one(model: SpeechLM) -> None:
    assert ways("fp32", "auto", rows=(1, 4)) == ways("fp32", "torch", rows=(4,)) == [Way("fp32", "torch")]
    with pytest.raises(WavslmError, match=r"makes steps of one row, got rows=\(1, 4\): leave it out"):
        model.for_inference(engine="exported", rows=(1, 4))
    for wrong in ((), (0,), (1.5,), ("2",)):
        with pytest.raises(WavslmError, match="must be numbers of 1 or more, such as"):
            model.for_inference(rows=wrong)  # type: ignore[arg-type]


def test_engines_belong_to_a_device(model: SpeechLM, monkeypatch: pytest.MonkeyPatch) -> None:
    here = load_registry().engines()[0]
    there = replace(here, name="there", device="cuda")
    monkeypatch.setattr(load_registry(), "_engines", {"exported": here, "there": there})
    assert ways("fp32", "auto") == [Way("fp32", "torch"), Way("fp32", "exported")]
    assert ways("auto", "auto", device="cuda") == [Way("fp32", "torch"), Way("fp32", "there")]
    missing = "" if torch.cuda.is_available() else " and PyTorch sees no CUDA GPU here"
    with pytest.raises(WavslmError, match=f"there computes on cuda, but the model is on cpu{missing}"):
        model.for_inference(engine="there")
    with pytest.raises(WavslmError, match=r"on cuda\. Move it with \.to\('cpu'\)\. .*: auto, there"):
        ways("fp32", "exported", device="cuda")
    with pytest.raises(WavslmError, match=r"auto cannot compute with weights='int8' on cuda; allowed: fp32"):
        ways("int8", "auto", device="cuda")
    with pytest.raises(WavslmError, match="packed inference is for the CPU, the model is on cuda"):
        ways("fp32", "torch", device="cuda")
    said = {
        (None, None): None,
        ("int8", "there"): "--weights int8",
        ("fp32", None): "--weights fp32",
        ("auto", "exported"): "--engine exported",
        (None, "there"): None,
        ("fp32", "auto"): None,
    }
    assert {given: cpu_only(*given) for given in said} == said


def test_on_a_gpu_torch_steps_with_the_weights_as_they_are(model: SpeechLM) -> None:
    with gpu() as device:
        copied = packed(model.backbone.to(device), "fp32")
        assert copied.packed_weights == "fp32"
        assert {weight.device for weight in copied.parameters()} == {device}
        y, _ = copied.step(torch.zeros(2, 4, 16, device=device), copied.init_state(2))
        assert y.device == device
        with pytest.raises(WavslmError, match="the model is on cpu and cuda; move all of it to one device"):
            model.for_inference()
        model.codec.to(device)
        with pytest.raises(WavslmError, match="packed inference is for the CPU, the model is on cuda"):
            model.codec.for_inference()


def test_copies_go_on(model: SpeechLM) -> None:
    waveform = recorded(4)
    fast = model.for_inference(engine="exported")
    expected = said(fast, waveform, turns=2)
    before = len(calls)
    assert torch.allclose(said(copy.deepcopy(fast), waveform, turns=2), expected, atol=1e-5)
    assert len(calls) > before
    before = len(calls)
    again = pickle.loads(pickle.dumps(fast))
    assert torch.allclose(said(again, waveform, turns=2), expected, atol=1e-5)
    assert len(calls) == before, "what an engine made stays in its process"


def test_an_engine_that_gives_something_else_is_found_out(
    model: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Engine("wrong", f"{__name__}:wrong", ("fp32",), "For tests.", "tests", "1", "tests")
    monkeypatch.setattr(load_registry(), "_engines", {"wrong": broken})
    with pytest.raises(
        WavslmError, match="the engine wrong with fp32 weights gives something else than torch"
    ):
        model.for_inference(engine="wrong")
    with pytest.warns(UserWarning, match="not used: the engine wrong"):
        chosen = model.for_inference(weights="fp32", engine="auto")
    assert not isinstance(chosen.backbone.step, EngineStep)


def test_an_engine_that_gives_other_tokens_is_found_out(
    model: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Engine("confused", f"{__name__}:confused", ("fp32",), "For tests.", "tests", "1", "tests")
    monkeypatch.setattr(load_registry(), "_engines", {"confused": broken})
    with pytest.raises(WavslmError, match="gives something else than torch \\(100 % of the tokens differ"):
        model.codec.for_inference(engine="confused")


def test_auto_measures_once(model: SpeechLM, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[list[str]] = []
    in_turns = inference.in_turns

    def noted(calls: Any, *, rounds: int) -> dict[str, float]:
        measured.append([*calls])
        return {name: float(name != "bf16, torch") for name in in_turns(calls, rounds=1)}

    monkeypatch.setattr(inference, "in_turns", noted)
    for _ in range(2):
        fast = model.for_inference(weights="auto", engine="auto")
        assert fast.backbone.packed_weights == "bf16"
    # First torch's own kernels of int8, where there are several.
    *kernels, ways_measured = measured
    assert ways_measured == ["fp32, torch", "fp32, exported", "bf16, torch", "int8, torch"]
    assert len(kernels) <= 1
    assert not any("torch" in kernel for names in kernels for kernel in names)


def test_coarser_weights_must_be_worth_it() -> None:
    allowed = ways("auto", "auto")
    assert allowed[:2] == [Way("fp32", "torch"), Way("fp32", "exported")]

    def taken(*seconds: float) -> str:
        return str(worth_taking(allowed, dict(zip(map(str, allowed), seconds, strict=True))))

    assert taken(1.0, 2.0, 0.95, 0.91) == "fp32, torch"
    assert taken(1.0, 0.99, 1.0, 1.0) == "fp32, exported"
    assert taken(1.0, 2.0, 0.5, 0.46) == "bf16, torch"
    assert taken(1.0, 2.0, 0.5, 0.4) == "int8, torch"
    # What could not be built was not timed.
    del allowed[1]
    assert str(worth_taking(ways("auto", "auto"), {"fp32, torch": 1.0, "int8, torch": 0.3})) == "int8, torch"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": "int4"}, "allowed: fp32, bf16, int8, auto.*Did you mean 'int8'"),
        ({"engine": "onnxruntime"}, "no engine is called 'onnxruntime'; installed: auto, torch, exported. "
         "'onnxruntime' comes with wavslm-onnx, in a clone of wavslm: pip install"),
        ({"engine": "torhc"}, "Did you mean 'torch'"),
        ({"engine": "exported", "weights": "int8"}, "compute with weights='int8'; allowed: fp32, auto"),
    ],
)  # fmt: skip
def test_what_cannot_be(model: SpeechLM, options: dict[str, str], said: str) -> None:
    with pytest.raises(WavslmError, match=said):
        model.for_inference(**options)


def test_an_engine_that_cannot_be_imported_names_its_distribution(
    model: SpeechLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = Engine("lost", "nowhere_at_all:run", ("fp32",), "For tests.", "tests", "1", "tests")
    monkeypatch.setattr(load_registry(), "_engines", {"lost": lost})
    with pytest.raises(PluginError, match="the engine lost of tests 1 cannot be imported"):
        model.for_inference(engine="lost")
