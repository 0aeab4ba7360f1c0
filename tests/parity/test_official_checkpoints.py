"""Official folders through the public API: the same tokens, features, audio, logits and continuations."""

import json
import math
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from wavslm_core import Codec, SpeechLM

SHARED = Path(os.environ.get("WAVSLM_SHARED", Path(__file__).resolve().parents[2] / "../shared"))
PARITY = SHARED / "parity"
CODECS = (
    "codec_50hz_causal",
    "codec_50hz_causal_ragged",
    "codec_50hz_causal_vocos",
    "codec_50hz_offline",
    "codec_50hz_offline_old_keys",
    "codec_12_5hz_offline",
)

pytestmark = pytest.mark.skipif(not PARITY.is_dir(), reason=f"the parity models are not at {PARITY}")


def close(given: Tensor, expected: Tensor) -> bool:
    """2e-4 absolute plus 1e-5 of the largest magnitude, as stated beside the models."""
    tolerance = 2e-4 + 1e-5 * expected.abs().max().item()
    return given.shape == expected.shape and (given - expected).abs().max().item() <= tolerance


@pytest.fixture(scope="module")
def speech_lm() -> SpeechLM:
    return SpeechLM.load(PARITY / "wavslm", codec=Codec.load(PARITY / "codec_50hz_causal"))


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    return load_file(PARITY / "wavslm" / "io.safetensors")


@pytest.mark.parametrize("name", CODECS)
def test_codec(name: str) -> None:
    codec = Codec.load(PARITY / name)
    io = load_file(PARITY / name / "io.safetensors")
    assert torch.equal(codec.encode(io["sig"]), io["toks"])
    assert close(codec.dequantize(io["toks"]), io["qfeats"])
    assert close(codec.reconstruct(io["sig"]), io["rec_sig"])


@pytest.mark.parametrize("name", [name for name in CODECS if name.endswith(("causal", "vocos"))])
@pytest.mark.parametrize("chunks", [1, 3])
def test_codec_stream(name: str, chunks: int) -> None:
    codec = Codec.load(PARITY / name)
    io = load_file(PARITY / name / "io.safetensors")
    stream = codec.stream(batch_size=len(io["sig"]))
    tokens = [stream.encode(piece) for piece in io["sig"].split(1280 * chunks, dim=1)]
    assert torch.equal(torch.cat(tokens, 1), io["stream_toks"])
    assert close(torch.cat([stream.decode(piece) for piece in tokens], 1), io["stream_rec_sig"])


@pytest.mark.parametrize("name", ["codec_50hz_causal", "codec_12_5hz_offline"])
def test_a_codec_is_saved_in_the_official_format(name: str, tmp_path: Path) -> None:
    codec = Codec.load(PARITY / name)
    codec.save(tmp_path / "saved")
    official = load_file(PARITY / name / "model.safetensors")
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    assert saved.keys() == official.keys()
    assert all(torch.equal(saved[key], official[key]) for key in official)
    document = json.loads((tmp_path / "saved" / "config.json").read_text())
    given = json.loads((PARITY / name / "config.json").read_text())
    assert document["encoder_name"] == given["encoder_name"]
    assert document["decoder_config"]["hop_length"] == given["decoder_config"]["hop_length"]


def test_scores(speech_lm: SpeechLM, expected: dict[str, Tensor]) -> None:
    with torch.inference_mode():
        hidden = speech_lm.backbone(speech_lm.inputs(expected["toks"]))
        assert close(hidden @ speech_lm.head.weight.T, expected["logits"])
        log_probs = speech_lm.log_probs(expected["toks"])
    assert math.isclose(-log_probs.nanmean().item(), expected["next_chunk_nll"].item(), abs_tol=1e-4)


@pytest.mark.parametrize("chunks", [1, 2, 5])
def test_streamed_logits(speech_lm: SpeechLM, expected: dict[str, Tensor], chunks: int) -> None:
    state = speech_lm.backbone.init_state(len(expected["qfeats"]))
    pieces = []
    for piece in expected["qfeats"].split(4 * chunks, dim=1):
        hidden, state = speech_lm.backbone.step(piece, state)
        pieces.append(hidden @ speech_lm.head.weight.T)
    assert close(torch.cat(pieces, 1), expected["stream_logits"])


def test_greedy_continuation(speech_lm: SpeechLM, expected: dict[str, Tensor]) -> None:
    prompt, continued = expected["bos_toks"], expected["greedy_toks"]
    for sampler in ({"name": "greedy"}, {"name": "top_p", "p": 0.0}, {"name": "top_k", "k": 1}):
        new = speech_lm.generate(prompt, new_tokens=continued.shape[1], sampler=sampler)
        assert torch.equal(new, continued)
    assert close(speech_lm.decode_continuation(prompt, continued), expected["greedy_sig"])
    audio: list[Tensor] = []
    for chunk in speech_lm.stream(prompt, sampler={"name": "greedy"}):
        audio.append(chunk)
        if sum(piece.shape[1] for piece in audio) >= expected["greedy_sig"].shape[1]:
            break
    assert close(torch.cat(audio, 1), expected["greedy_sig"])


def test_a_language_model_is_saved_in_the_official_format(speech_lm: SpeechLM, tmp_path: Path) -> None:
    shutil.copytree(PARITY / "codec_50hz_causal", tmp_path / "codec")
    speech_lm.checkpoint_codec = "../codec"
    speech_lm.save(tmp_path / "speech_lm")
    saved = load_file(tmp_path / "speech_lm" / "model.safetensors")
    official = load_file(PARITY / "wavslm" / "model.safetensors")
    assert saved.keys() == official.keys()
    assert all(torch.equal(saved[key], official[key]) for key in official)
    assert json.loads((tmp_path / "speech_lm" / "config.json").read_text())["toks_per_step"] == 4
    again = SpeechLM.load(tmp_path / "speech_lm")
    assert again.codec.facts == speech_lm.codec.facts
