"""Graphs give what the model gives: tokens, audio, continuations and conversations, without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wavslm_core.errors import StreamingError, WavslmError
from wavslm_core.model.codec import Codec
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.parts.plugins import load_registry
from wavslm_core.testing.fakes import fake_codec, fake_speech_lm
from wavslm_onnx.export import export_model
from wavslm_onnx.runner import Runner, RunnerError

SECONDS = 3.0
"""Longer than every window and ring."""


@pytest.fixture(scope="module")
def folder(model: SpeechLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    export_model(model, folder)
    return folder


@pytest.fixture(scope="module")
def runner(folder: Path) -> Runner:
    return Runner(folder, threads=1)


@pytest.fixture(scope="module")
def waveform_S() -> torch.Tensor:  # noqa: N802
    noise_S = 0.1 * torch.randn(int(16000 * SECONDS), generator=torch.Generator().manual_seed(1))
    return noise_S[: len(noise_S) // 1280 * 1280]


class Uniform:
    """The random numbers of one row of ours."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, count: int) -> Any:
        return torch.rand(count, generator=self.generator).numpy()


def test_a_codec_of_small_parts_some_without_state(tmp_path: Path) -> None:
    torch.manual_seed(0)
    codec = fake_codec()
    export_model(codec, tmp_path / "codec")
    runner = Runner(tmp_path / "codec", threads=1)
    waveform_S = 0.1 * torch.randn(8 * 1280, generator=torch.Generator().manual_seed(1))
    tokens_1T = codec.encode(waveform_S[None])
    assert len(tokens_1T.unique()) > 1
    assert np.array_equal(runner.encode(waveform_S.numpy()), tokens_1T[0].numpy())
    assert np.allclose(runner.decode(tokens_1T[0].numpy()), codec.decode(tokens_1T)[0].numpy(), atol=1e-5)


@pytest.mark.slow
def test_the_codec_is_ours(runner: Runner, model: SpeechLM, waveform_S: torch.Tensor) -> None:
    tokens_1T = model.codec.encode(waveform_S[None])
    assert np.array_equal(runner.encode(waveform_S.numpy()), tokens_1T[0].numpy())
    expected_S = model.codec.decode(tokens_1T)[0].numpy()
    given_S = runner.decode(tokens_1T[0].numpy())
    assert np.allclose(given_S, expected_S, atol=1e-4)
    assert np.abs(expected_S).max() > 1e-3


@pytest.mark.slow
def test_continuations_are_ours(runner: Runner, model: SpeechLM, waveform_S: torch.Tensor) -> None:
    for seed in (0, 5):
        expected_1S = model.continue_speech(waveform_S[None], sample_rate=16000, seconds=2.4, seed=seed)
        given_S = runner.continue_speech(waveform_S.numpy(), seconds=2.4, uniform=Uniform(seed))
        assert given_S.shape == (38400,)
        assert np.allclose(given_S, expected_1S[0].numpy(), atol=1e-3)
    other_S = runner.continue_speech(waveform_S.numpy(), seconds=2.4, uniform=Uniform(6))
    assert not np.allclose(other_S, given_S, atol=1e-3)


@pytest.mark.slow
def test_conversations_are_ours(runner: Runner, model: SpeechLM, waveform_S: torch.Tensor) -> None:
    session, talk = model.session(), runner.conversation(uniform=Uniform(4))
    row = session.join(seed=4)
    pieces = waveform_S.split(1280 * 5)
    for turn, piece_S in enumerate(pieces):
        (before_S,) = session.hear(piece_S[None])
        assert np.allclose(talk.hear(piece_S.numpy()), before_S.numpy(), atol=1e-3), turn
        for _ in range(3):
            (said_S,) = session.speak()
            assert np.allclose(talk.speak(), said_S.numpy(), atol=1e-3), turn
    assert np.allclose(talk.held_back(), session.leave(row).numpy(), atol=1e-3)


@pytest.mark.slow
def test_it_needs_no_torch(folder: Path, waveform_S: torch.Tensor, tmp_path: Path) -> None:
    np.save(tmp_path / "prompt.npy", waveform_S.numpy())
    program = (
        "import sys; sys.modules['torch'] = sys.modules['wavslm_core'] = None\n"
        "import numpy as np\n"
        "from wavslm_onnx.runner import Runner\n"
        f"runner = Runner({str(folder)!r}, threads=1)\n"
        f"prompt = np.load({str(tmp_path / 'prompt.npy')!r})\n"
        "first, again = (runner.continue_speech(prompt, seconds=0.5, seed=2) for _ in range(2))\n"
        "assert first.shape == (8000,) and np.array_equal(first, again)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.slow
def test_a_codec_alone_in_8_bits(model: SpeechLM, waveform_S: torch.Tensor, tmp_path: Path) -> None:
    export_model(model.codec, tmp_path / "codec", weights="int8")
    runner = Runner(tmp_path / "codec", threads=1)
    expected_T = model.codec.encode(waveform_S[None])[0].numpy()
    assert (runner.encode(waveform_S.numpy()) == expected_T).mean() > 0.5
    given_S, expected_S = runner.decode(expected_T), model.codec.decode(expected_T)[0].numpy()
    assert 0 < np.abs(given_S - expected_S).mean() < 0.2 * np.abs(expected_S).mean()
    with pytest.raises(RunnerError, match="holds a codec alone"):
        runner.conversation()


@pytest.mark.slow
def test_what_a_user_can_get_wrong(folder: Path, runner: Runner, model: SpeechLM, tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match=r"is no exported model .*wavslm export"):
        Runner(tmp_path)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in folder.iterdir():
        (damaged / path.name).write_bytes(path.read_bytes()[: -1 if path.name == "speak.onnx" else None])
    with pytest.raises(RunnerError, match=r"speak\.onnx is .*, not .*\. Export the model again"):
        Runner(damaged)
    with pytest.raises(RunnerError, match=r"a chunk is 1280 samples, got 100"):
        runner.encode(np.zeros(100))
    with pytest.raises(RunnerError, match=r"mono samples .* not an array \(2, 1280\)"):
        runner.encode(np.zeros((2, 1280)))
    with pytest.raises(RunnerError, match=r"tokens \(T,\) from 0 to 63"):
        runner.decode(np.array([0, 1, 2, 64]))
    with pytest.raises(RunnerError, match="nothing was heard yet"):
        runner.conversation().speak()


def test_what_cannot_be_steps(model: SpeechLM, tmp_path: Path) -> None:
    merging = fake_speech_lm(fake_codec(max_run=3))
    with pytest.raises(WavslmError, match="its quantizer merges runs of tokens"):
        export_model(merging, tmp_path / "merging")
    single = fake_speech_lm(fake_codec(), chunk_tokens=1, reads="embedding")
    with pytest.raises(WavslmError, match="its head speaks 1 tokens at a time, its codec 4"):
        export_model(single, tmp_path / "single")
    config = model.codec.encoder.config.model_copy(update={"causal": False})
    offline = Codec(load_registry().build(config), model.codec.quantizer, model.codec.decoder)
    with pytest.raises(StreamingError):
        export_model(offline, tmp_path / "offline")
    assert not list(tmp_path.iterdir())
