"""The engine `inductor`: compiled steps are torch's steps, one package serves all models of one shape."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from wavslm_core.errors import WavslmError
from wavslm_core.machine.timings import FOLDER_VARIABLE
from wavslm_core.model.inference import EngineStep, Way, backbone_flows, chunk_engine, fast_copy
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.parts.packing import LinearGelu
from wavslm_core.parts.streaming import stream_mode
from wavslm_inductor import packages
from wavslm_inductor.engine import compiled
from wavslm_inductor.linears import CompiledInt8Linear, PackOnce

CHUNK, VOCABULARY = 4, 256
MINUTE = 3000
"""Tokens of a minute: rings of all sizes in the model wrap many times."""


class Counting(nn.Module):
    """The least that is a step."""

    def forward(self, x: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        return x * count, count + 1


class Scaled(nn.Module):
    """A step whose weights are few enough to be written into what is compiled."""

    def __init__(self, value: float, *, shared: bool = False) -> None:
        super().__init__()
        self.value = value
        self.gain = nn.Parameter(torch.tensor(value))
        self.shift = nn.Parameter(torch.full((4,), value))
        self.other = self.shift if shared else nn.Parameter(torch.full((4,), value + 1))

    def forward(self, x: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        return x * self.gain + self.shift + self.other + torch.tensor([self.value]), count + 1


class Wide(nn.Module):
    """A step whose linears are worth int8."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = LinearGelu(96, 1500), nn.Linear(1500, 96)

    def forward(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        y = self.second(self.first(x + before))
        return y, y


def count() -> Callable[..., Any]:
    return compiled(Counting(), torch.ones(1, 4), (torch.zeros(1),), weights="fp32")


def whole(model: SpeechLM) -> SpeechLM:
    """Return a model whose whole step is compiled, of all steps the one that has all in it."""
    parts = model.codec, model.backbone, model.head, model.sampler
    fast = SpeechLM(*parts).eval()
    fast.chunk_engine = chunk_engine(model.codec.quantizer, *parts[1:], Way("fp32", "inductor"))
    assert fast.chunk_engine is not None
    return fast


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(folder))
        yield folder / "inductor"


@pytest.fixture(scope="module")
def fast(model: SpeechLM, cache: Path, kernels: None) -> SpeechLM:
    return whole(model)


def prompt() -> Tensor:
    return torch.arange(2 * CHUNK)[None]


@pytest.mark.slow
def test_tokens_of_a_minute_are_those_of_torch(model: SpeechLM, fast: SpeechLM) -> None:
    """Drawn with the same random numbers, long after all windows are full."""
    expected = model.generate(prompt(), new_tokens=MINUTE, seed=3)
    assert torch.equal(fast.generate(prompt(), new_tokens=MINUTE, seed=3), expected)
    assert len(expected.unique()) > VOCABULARY // 4


@pytest.mark.slow
def test_rows_join_rest_and_leave(model: SpeechLM, fast: SpeechLM) -> None:
    """One row goes through the compiled step, several at once through torch, over the same states."""
    acting = [[0]] * 3 + [[0, 1]] * 3 + [[1]] * 9 + [[0]] * 5 + [[1, 0, 2]] * 2 + [[2]] * 12 + [[0]] * 3
    said: list[list[Tensor]] = []
    for way in (model, fast):
        session, pieces = way.session(), []
        for row in range(3):
            session.join(seed=row)
        session.read(prompt().repeat(3, 1))
        for turn, rows in enumerate(acting):
            if turn == 25:
                pieces.append(session.leave(1))
            if turn in (2, 12):
                pieces += session.read(prompt(), rows)
            pieces += session.speak(rows)
        said.append(pieces)
    for found, expected in zip(*said, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0.0)


@pytest.mark.slow
def test_models_of_one_shape_share_what_is_compiled(
    other_model: SpeechLM, fast: SpeechLM, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len([*cache.glob("*.pt2")]) == 1
    monkeypatch.setattr(packages, "_compile", None)
    expected = other_model.generate(prompt(), new_tokens=200)
    assert torch.equal(whole(other_model).generate(prompt(), new_tokens=200), expected)
    # The first one still has weights of its own.
    assert not torch.equal(fast.generate(prompt(), new_tokens=200), expected)


@pytest.mark.slow
def test_a_part_alone_steps_by_the_engine_too(model: SpeechLM, fast: SpeechLM) -> None:
    """Where a whole step cannot be, and where the first chunk is read, over states that begin in torch."""
    facts = model.backbone_facts
    read = backbone_flows(facts, width=facts.input_dim, tokens=CHUNK)
    backbone = fast_copy(model.backbone, Way("fp32", "inductor"), read)
    assert isinstance(backbone.step, EngineStep)
    parts = SpeechLM(model.codec, backbone, model.head, model.sampler).eval()
    expected = model.generate(prompt(), new_tokens=200, seed=3)
    assert torch.equal(parts.generate(prompt(), new_tokens=200, seed=3), expected)


@pytest.mark.slow
@pytest.mark.usefixtures("kernels")
def test_few_weights_are_a_models_own_too(cache: Path) -> None:
    """Not those of the model that was compiled first, nor two where that one had one."""
    x, state = torch.randn(1, 4), torch.ones(1)
    before = len([*cache.glob("*.pt2")])
    for made in (Scaled(1.0), Scaled(5.0), Scaled(2.0, shared=True)):
        y, _ = compiled(made, x, (state,), weights="fp32")(x, (state.clone(),))
        torch.testing.assert_close(y, made(x, state)[0])
    assert len([*cache.glob("*.pt2")]) - before == 2


@pytest.mark.slow
@pytest.mark.usefixtures("kernels")
def test_int8_weights_are_compiled_for_many_weights(cache: Path) -> None:
    torch.manual_seed(0)
    wide, x, before = Wide().eval(), torch.randn(1, 4, 96), torch.randn(1, 4, 96)
    y, (left,) = compiled(wide, x, (before,), weights="int8")(x, (before.clone(),))
    torch.testing.assert_close(left, y)
    pack = PackOnce("int8")
    rounded = nn.Sequential(
        pack(wide.first.weight, wide.first.bias, activation="gelu"),
        pack(wide.second.weight, wide.second.bias),
    )
    assert [type(linear) for linear in rounded] == [CompiledInt8Linear] * 2
    torch.testing.assert_close(y, rounded(x + before), atol=1e-5, rtol=1e-4)
    expected = wide(x, before)[0]
    assert 1e-4 < (y - expected).norm() / expected.norm() < 0.03


@pytest.mark.slow
@pytest.mark.usefixtures("kernels", "cache")
@pytest.mark.parametrize("weights", ["fp32", "int8"])
def test_weights_are_laid_out_for_as_long_as_steps_read_them(weights: str) -> None:
    """A second step shares them, and those of a model that is gone take no memory."""

    def uses() -> int:
        return torch._C._storage_Use_Count(wide.first.bias.untyped_storage()._cdata)

    wide, x, before = Wide().eval(), torch.randn(1, 4, 96), torch.randn(1, 4, 96)
    unused = uses()
    with stream_mode():
        # While it compiles, torch keeps what it compiled last.
        compiled(Wide().eval(), x, (before,), weights=weights)
        fast = compiled(wide, x, (before,), weights=weights)
        gc.collect()
        again = PackOnce(weights)(wide.first.weight, wide.first.bias).packed
    assert any(tensor is again for tensor in vars(fast)["_constants"].values())
    # Collected when it happens to be, such as in the middle of tracing.
    with FakeTensorMode():
        del fast, again
        gc.collect()
    assert uses() == unused


def test_weights_that_were_trained_on_are_laid_out_anew() -> None:
    weight_NK, x = torch.randn(512, 512), torch.randn(4, 512)
    pack = PackOnce("fp32")
    first, again = pack(weight_NK, None), pack(weight_NK, None)
    assert first.packed is again.packed
    weight_NK.mul_(3)
    torch.testing.assert_close(pack(weight_NK, None)(x), x @ weight_NK.T, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(3 * first(x), x @ weight_NK.T, atol=1e-3, rtol=1e-3)


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with (
        config.patch({"cpp.cxx": ("no-such-compiler",)}),
        pytest.raises(WavslmError, match=r"no C\+\+ compiler is found here: install one .*g\+\+"),
    ):
        count()
    assert not [*tmp_path.rglob("*.pt2")]


def test_a_damaged_package_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def noted(program: Any, path: Path, *, named: str) -> None:
        made.append(path)
        raise WavslmError("not today")

    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(packages, "_compile", noted)
    monkeypatch.setattr(packages, "json_digest", lambda identity: "digest")
    (tmp_path / "inductor").mkdir()
    (tmp_path / "inductor" / "digest.pt2").write_bytes(b"PK damaged")
    with pytest.raises(WavslmError, match="not today"):
        count()
    assert len(made) == 1
