"""Likeness of speakers: what the libraries themselves compute, on weights in their formats."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from wavslm_core.data.audio import load_torchaudio
from wavslm_core.errors import CheckpointError, WavslmError
from wavslm_core.testing import contract_tests
from wavslm_judges.config import ResemblyzerConfig, WavlmSvConfig
from wavslm_judges.speakers import Resemblyzer, WavlmSv, part_starts

RATE_HZ = 16_000


def write_resemblyzer(folder: Path) -> None:
    """Leave weights where the wheel has them, of its shapes and beside all that it keeps with them."""
    torch.manual_seed(1)
    lstm, linear = nn.LSTM(40, 256, num_layers=3, batch_first=True), nn.Linear(256, 256)
    state = {f"{name}.{key}": value for name, part in (("lstm", lstm), ("linear", linear))
             for key, value in part.state_dict().items()}  # fmt: skip
    state |= {"similarity_weight": torch.tensor([10.0]), "similarity_bias": torch.tensor([-5.0])}
    (folder / "resemblyzer").mkdir(parents=True)
    # What cannot be imported shows that nothing imports it.
    (folder / "resemblyzer" / "__init__.py").write_text("raise ImportError('needs librosa')")
    torch.save({"step": 3, "model_state": state}, folder / "resemblyzer" / "pretrained.pt")


@pytest.fixture(scope="module", autouse=True)
def _wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("wheel")
    write_resemblyzer(folder)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def wavlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WavLM for speaker verification as the hub has them, small and untrained."""
    load_torchaudio()
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.WavLMConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        tdnn_dim=(16, 16, 16, 16, 48),
        xvector_output_dim=20,
    )
    folder = tmp_path_factory.mktemp("wavlm_sv")
    transformers.WavLMForXVector(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


TestResemblyzer = contract_tests(ResemblyzerConfig())


def noise(seconds: float, *, seed: int) -> torch.Tensor:
    return 0.1 * torch.randn(round(seconds * RATE_HZ), generator=torch.Generator().manual_seed(seed))


def test_parts_of_a_recording_lie_where_the_library_has_them() -> None:
    # 1.6 s are one part. The next begins 0.77 s later, and counts once three quarters of it are there.
    for seconds, starts in {
        0.5: [0],
        1.6: [0],
        1.9: [0],
        1.98: [0, 77],
        2.4: [0, 77],
        3.0: [0, 77, 154],
    }.items():
        assert part_starts(round(seconds * RATE_HZ)) == starts


@torch.inference_mode()
def test_resemblyzer_is_the_mean_of_parts_whatever_the_level_below_the_mark() -> None:
    metric = Resemblyzer(ResemblyzerConfig())
    speech_S = 0.01 * noise(2.4, seed=0)
    parts = [speech_S[start * 160 : (start + 160) * 160] for start in part_starts(speech_S.numel())]
    whole_D = metric.embed(speech_S)
    assert whole_D.shape == (256,)
    assert metric.embed(0.5 * speech_S).numpy() == pytest.approx(whole_D.numpy(), abs=1e-5)
    assert not torch.allclose(metric.embed(50 * speech_S), whole_D, atol=1e-4)
    assert len(parts) == 2
    assert metric.compute(speech_S, 0.5 * speech_S, sample_rate_hz=RATE_HZ) == pytest.approx(100, abs=1e-3)
    assert {*metric.versions()} >= {"weights"}


def test_what_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [place for place in sys.path if "wheel" not in place])
    sys.path_importer_cache.clear()
    with pytest.raises(WavslmError, match=r"pip install --no-deps resemblyzer==0\.1\.4"):
        Resemblyzer(ResemblyzerConfig())


def test_wavlm_is_what_transformers_computes(wavlm: Path) -> None:
    import transformers

    metric = WavlmSv(WavlmSvConfig(model=str(wavlm)))
    one_S, other_S = noise(1.0, seed=0), noise(1.7, seed=1)
    model = transformers.WavLMForXVector.from_pretrained(wavlm).eval()
    with torch.no_grad():
        embedded = [
            model(((sound_S - sound_S.mean()) / sound_S.std(correction=0))[None]).embeddings[0]
            for sound_S in (one_S, other_S)
        ]
    expected = 100 * float(nn.functional.cosine_similarity(*embedded, dim=0))
    assert metric.compute(one_S, other_S, sample_rate_hz=RATE_HZ) == pytest.approx(expected, abs=0.01)
    assert metric.compute(one_S, one_S, sample_rate_hz=RATE_HZ) == pytest.approx(100, abs=1e-3)
    for nothing_S in (torch.zeros(RATE_HZ), one_S[:4000]):
        assert math.isnan(metric.compute(one_S, nothing_S, sample_rate_hz=RATE_HZ))
    assert len(metric.versions()["weights"]) == 16


def test_the_contract_of_wavlm(wavlm: Path) -> None:
    config = WavlmSvConfig(model=str(wavlm))
    contract = contract_tests(config)()
    for name in dir(contract):
        if (name.startswith("test_") and "audio" in name) or name.startswith("test_a_prompt"):
            getattr(contract, name)()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(WavslmError, match="is no WavLM for speaker verification"):
        WavlmSv(WavlmSvConfig(model=str(tmp_path)))
    with pytest.raises(CheckpointError, match="nowhere"):
        WavlmSv(WavlmSvConfig(model="nowhere"))
