"""The verbs that work with models, with a model trained in seconds."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests.support import Command, bring
from wavslm_core import Codec, SpeechLM
from wavslm_core.data.audio import read_audio
from wavslm_core.data.token_files import TokenFile

Call = Callable[..., str]


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of three recordings."""
    folder = tmp_path_factory.mktemp("speech")
    noise = np.random.default_rng(0)
    for name, seconds, rate_hz in [("a.wav", 1.0, 16000), ("b/c.flac", 0.7, 22050), ("b/d.e.wav", 0.5, 8000)]:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, 0.1 * noise.standard_normal(round(seconds * rate_hz)), rate_hz)
    return folder


@pytest.fixture
def call(run: Command) -> Call:
    """Call `wavslm` in a fresh folder; return its standard error."""
    return lambda *arguments, **code: run("wavslm", *arguments, **code).stderr


def token_file(path: Path, **changes: Any) -> Path:
    """Write what `wavslm encode` would, with changes."""
    arrays: dict[str, Any] = {
        "tokens": np.arange(8, dtype=np.uint16),
        "samples": 2560,
        "sample_rate_hz": 16000,
        "vocab_size": 256,
        "codec": "one",
    } | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_encode_and_decode_keep_the_tree_and_the_durations(
    run: Command, small_run: Path, speech: Path, tmp_path: Path
) -> None:
    encoded = run("wavslm", "encode", small_run, speech, "--out", "tokens")
    assert encoded.stderr == ""
    assert encoded.stdout == "3 recordings (2.2 s, 110 tokens) → tokens\n"
    codec = Codec.load(small_run)
    for name, source in [("a", "a.wav"), ("b/c", "b/c.flac"), ("b/d.e", "b/d.e.wav")]:
        held = TokenFile.read(tmp_path / "tokens" / f"{name}.npz")
        waveform_S = read_audio(speech / source, sample_rate_hz=16000)
        assert torch.equal(torch.from_numpy(held.tokens_T), codec.encode(waveform_S[None])[0])
        assert (held.samples, held.vocab_size) == (waveform_S.numel(), 256)
    decoded = run("wavslm", "decode", small_run / "codec", "tokens", "--out", "speech")
    assert decoded.stdout == "3 recordings (2.2 s at 16000 Hz) → speech\n", decoded.stderr
    written = sorted(path.relative_to(tmp_path / "speech") for path in tmp_path.glob("speech/**/*.wav"))
    assert [str(path) for path in written] == ["a.wav", "b/c.wav", "b/d.e.wav"]
    waveform_S = read_audio(speech / "b" / "c.flac", sample_rate_hz=16000)
    expected_S = codec.reconstruct(waveform_S[None])[0]
    decoded_S = read_audio(tmp_path / "speech" / "b" / "c.wav")
    torch.testing.assert_close(decoded_S, expected_S.clamp(-1, 1), atol=1e-4, rtol=0)


def test_a_model_in_a_box_speaks_encodes_and_decodes_by_its_name(
    call: Callable[..., str],
    small_run: Path,
    speech: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bring(monkeypatch, tmp_path, {f"tiny/{kind}": small_run / kind for kind in ("codec", "speech_lm")})
    options = ["--continuations", "1", "--seconds", "0.2", "--prompt-seconds", "0.5"]
    assert call("generate", "tiny", speech / "a.wav", *options) == ""
    call("score", "tiny", speech / "a.wav")
    assert call("encode", "tiny", speech / "a.wav") == ""
    assert call("decode", "tiny", "tokens") == ""
    assert TokenFile.read(tmp_path / "tokens" / "a.npz").codec == "tiny"


def test_two_files_for_one_place_are_refused_before_any_is_written(
    call: Call, small_run: Path, speech: Path, tmp_path: Path
) -> None:
    shutil.copy(speech / "b" / "c.flac", tmp_path / "a.flac")
    shutil.copy(speech / "a.wav", tmp_path / "a.wav")
    errors = call("encode", small_run, tmp_path, code=2)
    assert f"{tmp_path / 'a.flac'} and {tmp_path / 'a.wav'} would both be written to tokens/a.npz" in errors
    assert not (tmp_path / "tokens").exists()
    assert call("encode", small_run, tmp_path / "a.wav", tmp_path / "a.wav") == ""


def test_what_a_killed_encode_left_and_long_names_end_nothing(
    call: Call, small_run: Path, speech: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    names = ["a" * 251, "short"]
    for name in names:
        shutil.copy(speech / "a.wav", tmp_path / "in" / f"{name}.wav")
    (tmp_path / "in" / "gone.wav").symlink_to("nothing")
    skipped = f"skipped: {tmp_path / 'in' / 'gone.wav'} is a link to nothing; mend or remove it\n"
    assert call("encode", small_run, tmp_path / "in") == skipped
    tokens = tmp_path / "tokens"
    assert sorted(path.stem for path in tokens.iterdir()) == names
    (tokens / ".writing-01234567-left.npz").write_bytes(b"half")
    (tokens / "damaged.npz").write_bytes(b"half")
    errors = call("decode", small_run, "tokens")
    (line,) = errors.splitlines()
    assert line.startswith("skipped: tokens/damaged.npz is no token file, or damaged (")
    assert sorted(path.stem for path in (tmp_path / "decoded").iterdir()) == names


def test_score_is_the_models_log_likelihood(
    run: Command, small_run: Path, speech: Path, tmp_path: Path
) -> None:
    done = run("wavslm", "score", small_run / "speech_lm", speech)
    header, *rows = (line.split("\t") for line in done.stdout.splitlines())
    assert header == ["file", "log_likelihood", "per_token", "tokens"]
    assert [row[0] for row in rows] == ["a.wav", "b/c.flac", "b/d.e.wav"]
    model = SpeechLM.load(small_run)
    tokens_BT = model.codec.encode(read_audio(speech / "b" / "c.flac", sample_rate_hz=16000)[None])
    assert tokens_BT.shape[1] % 4, "a part of a chunk counts too"
    with torch.inference_mode():
        expected = model.log_probs(tokens_BT).nansum().item()
    assert float(rows[1][1]) == pytest.approx(expected, abs=0.01)
    assert int(rows[1][3]) == tokens_BT.shape[1] - 4, "the first chunk is not scored"
    assert done.stderr.startswith(f"3 recordings, {sum(int(row[3]) for row in rows)} tokens: ")


def test_generate_writes_what_it_says_and_again_the_same(
    run: Command, call: Call, small_run: Path, speech: Path, tmp_path: Path
) -> None:
    arguments = ["--continuations", "2", "--prompt-seconds", "0.4", "--seconds", "0.2", "--seed", "3"]
    done = run("wavslm", "generate", small_run, speech / "a.wav", *arguments, "--out", "one")
    folder = tmp_path / "one" / "00_a"
    listed = done.stdout.splitlines()[0].removeprefix("one/00_a: ").split(", ")
    assert {path.name for path in folder.iterdir()} == {*listed, "sample.json"}
    assert "1 prompt × 2 continuations of 0.2 s → one in " in done.stdout
    assert soundfile.info(folder / "continuation_1.wav").frames == round((0.4 + 0.2) * 16000)
    assert call("generate", small_run, speech / "a.wav", *arguments, "--out", "two") == ""
    for name in listed:
        assert (folder / name).read_bytes() == (tmp_path / "two" / "00_a" / name).read_bytes()


@pytest.mark.parametrize("weights", ["fp32", "int8"])
def test_generate_with_another_sampler_and_packed_weights(
    call: Call, small_run: Path, speech: Path, tmp_path: Path, weights: str
) -> None:
    sampler = ["--sampler", "top_k", "--set", "k=1", "--set", "temperature=0.5", "--weights", weights]
    prompts = ["--prompt-seconds", "0.4", "--seconds", "0.24", "--continuations", "2"]
    assert call("generate", small_run, speech / "a.wav", *sampler, *prompts) == ""
    sample = json.loads((tmp_path / "continuations" / "00_a" / "sample.json").read_text())
    assert sample["sampler"] == {"name": "top_k", "k": 1, "temperature": 0.5}
    first, second = sample["new_tokens"]
    assert first == second, "the likeliest token leaves nothing to chance"
    assert len(first) == 12


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["encode", "RUN", "nowhere.wav"], "nowhere.wav does not exist; give files or folders"),
        (["encode", "RUN", "."], "folder . holds no WAV, FLAC, OGG, Opus, MP3"),
        (
            ["encode", "nowhere", "SPEECH"],
            "no folder 'nowhere' exists, and no installed plugin brings a checkpoint of that name",
        ),
        (["encode", "SPEECH", "SPEECH"], "holds no config.json"),
        (["encode", "RUN/speech_lm", "SPEECH"], "holds a language model, but a codec is needed here"),
        (["score", "lonely", "SPEECH"], "the codec that lonely names cannot be loaded: no folder '"),
        (["generate", "lonely", "SPEECH"], "or a hub id: owner/name; give another one with --codec"),
        (["generate", "nameless", "SPEECH"], "nameless names no codec; give another one with --codec"),
        (
            ["generate", "RUN", "other", "SPEECH/a.wav"],
            "other is the folder of a run, that is, another model",
        ),
        (["encode", "RUN", "SPEECH/a.wav", "other"], "name one model, and then files or folders of files."),
        (["score", "RUN", "other"], "What the run itself has spoken is in other/samples"),
        (["decode", "RUN", "other"], "other is the folder of a run, that is, another model"),
        (["score", "RUN/codec", "SPEECH"], "holds a codec, but a language model is needed here"),
        (["encode", "RUN", "SPEECH/a.wav", "--out", "file"], "cannot write file/a.npz: file is a file"),
        (["generate", "RUN", "SPEECH/a.wav", "--out", "file"], "/file/00_a cannot be written"),
        (["generate", "RUN", "SPEECH", "--sampler", "top_q"], "Did you mean 'top_p'?"),
        (["generate", "RUN", "SPEECH", "--set", "p=1"], "--set p=1 needs --sampler NAME"),
        (["generate", "RUN", "SPEECH", "--sampler", "top_p", "--set", "p"], "must read option=value"),
        (["generate", "RUN", "SPEECH", "--sampler", "top_p", "--set", "p=[1"], "must read option=value"),
        (["generate", "RUN", "SPEECH", "--sampler", "top_p", "--set", "p=7"], "less than or equal to 1"),
        (["generate", "RUN", "SPEECH", "--sampler", "top_p", "--set", "k=7"], "k: no such key. Allowed:"),
        (["generate", "RUN", "SPEECH", "--weights", "int4"], "allowed: fp32, bf16, int8"),
        (["generate", "RUN", "SPEECH", "--seconds", "inf"], "Invalid value for '--seconds'"),
        (["generate", "RUN", "SPEECH/a.wav", "--prompt-seconds", "0.05"], "shorter than one chunk (80 ms)"),
        (["generate", "RUN", "SPEECH", "--prompt-seconds", "0.05"], "none of the 3 files can be used"),
        (["score", "RUN", "short.wav"], "short.wav lasts 50 ms: no whole chunk (80 ms) follows the first"),
        (["encode", "RUN", "SPEECH", "--device", "cuda:99"], "--device is cuda:99, but PyTorch sees none"),
        (["decode", "RUN", "SPEECH", "--device", "cuda:99"], "--device is cuda:99, but PyTorch sees none"),
        (["score", "RUN", "SPEECH", "--device", "gpu"], "--device gpu is no device. Did you mean 'cpu'?"),
        (["generate", "RUN", "SPEECH", "--device", "cuda:99"], "--device is cuda:99, but PyTorch sees"),
        (["doctor", "--device", "cuda:99"], "--device is cuda:99, but PyTorch sees none here. Usable: auto"),
        (["doctor", "nowhere.yaml"], "there is no recipe 'nowhere.yaml'"),
        (["doctor", "nothing.yaml"], "has no stage train_codec or train_lm, so nothing to try. Add one"),
    ],
)
def test_wrong_arguments_are_one_line_and_write_nothing(
    call: Call, small_run: Path, speech: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "nothing.yaml").write_text("name: nothing\n")
    if "short.wav" in arguments:
        soundfile.write(tmp_path / "short.wav", np.zeros(800), 16000)
    for name in {"lonely", "nameless"}.intersection(arguments):
        shutil.copytree(small_run / "speech_lm", tmp_path / name)
        beside = tmp_path / name / "config.json"
        document = json.loads(beside.read_text())
        assert document.pop("codec_config") == "../codec"
        named = {} if name == "nameless" else {"codec_config": "../codec"}
        beside.write_text(json.dumps(document | named))
    if "other" in arguments:
        (tmp_path / "other" / "samples").mkdir(parents=True)
        (tmp_path / "other" / "recipe.yaml").write_text("name: other\n")
        shutil.copy(speech / "a.wav", tmp_path / "other" / "samples")
    before = sorted(tmp_path.iterdir())
    places = {"RUN": str(small_run), "SPEECH": str(speech)}
    replaced = [
        "/".join([places.get(piece.split("/")[0], piece.split("/")[0]), *piece.split("/")[1:]])
        for piece in arguments
    ]
    errors = call(*replaced, code=2)
    assert said in errors
    assert sum(line.lower().startswith("error: ") for line in errors.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vocab_size": 4096}, "of a codec with 4096 codes at 16000 Hz (one), but"),
        ({"sample_rate_hz": 24000}, "of a codec with 256 codes at 24000 Hz (one), but"),
        ({"tokens": np.array([3, 256])}, "tokens 3…256 of a codec with 256 codes"),
        ({"samples": None}, "it holds no samples"),
        ({"codec": np.array({"a": 1}, dtype=object)}, "it is no array of numbers"),
    ],
)
def test_token_files_that_cannot_be_decoded(
    call: Call, small_run: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    errors = call("decode", small_run, token_file(tmp_path / "t.npz", **changes), "--out", "out", code=2)
    assert said in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_run_without_a_language_model_still_encodes(
    call: Call, small_run: Path, speech: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_run / "codec", tmp_path / "run" / "codec")
    assert call("encode", "run", speech / "a.wav") == ""
    errors = call("score", "run", speech / "a.wav", code=2)
    assert "run holds a codec, but no language model yet" in errors


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="names are UTF-8 there")
def test_names_need_not_be_utf8(
    run: Command, call: Call, small_run: Path, speech: Path, tmp_path: Path
) -> None:
    folder = os.fsencode(tmp_path) + b"/\xe9"
    Path(os.fsdecode(folder)).mkdir()
    shutil.copy(os.fsencode(speech / "a.wav"), folder + b"/caf\xe9.wav")
    scored = run("wavslm", "score", small_run, folder)
    assert scored.stdout.splitlines()[1].startswith(r"caf\udce9.wav")
    for arguments in [
        ("encode", small_run, os.fsdecode(folder), "--out", "tokens"),
        ("decode", small_run, "tokens", "--out", "speech"),
        ("generate", small_run, os.fsdecode(folder), "--seconds", "0.1", "--continuations", "1"),
    ]:
        assert call(*arguments) == ""
    assert os.listdir(os.fsencode(tmp_path / "speech")) == [b"caf\xe9.wav"]  # noqa: PTH208
    assert (tmp_path / "continuations" / "00_caf_udce9" / "continuation_0.wav").exists()


@pytest.mark.parametrize("verb", ["encode", "decode", "generate", "score", "doctor"])
def test_help_says_what_everything_is(run: Command, tmp_path: Path, verb: str) -> None:
    done = run("wavslm", verb, "--help")
    options = [line for line in done.stdout.splitlines() if line.startswith("  -")]
    assert options
    assert all(len(line.split("  ")) > 2 for line in options), done.stdout


def test_doctor_tells_what_learns_from_what_does_not(
    run: Command, small_recipe: Path, tmp_path: Path
) -> None:
    rates = ["stages.train_codec.lr=0.003", "stages.train_lm.lr=0.01"]
    well = run("wavslm", "doctor", small_recipe, *rates)
    assert "codec       learns: loss" in well.stdout
    assert "LM          learns: bits per token" in well.stdout
    assert re.search(r"precision   training in (fp32|bf16) \(.*\), validation in fp32", well.stdout)
    # The codec's three parts, the language model's two, and their losses.
    rows = re.findall(r"^ +(\w+)(?:, \w+)? +\d+\.\d\d% +\d+\.\d\d% +\d+\.\d\d%$", well.stdout, re.MULTILINE)
    assert {"encoder", "quantizer", "decoder", "backbone", "head", "loss"} == set(rows), well.stdout
    assert well.stdout.splitlines()[-1].startswith(("all is well", "wavslm is well; "))
    ill = run("wavslm", "doctor", small_recipe, "--steps", "1", code=2)
    assert "the codec of" in ill.stderr
    assert "Try more --steps, another `lr`, or a larger model" in ill.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".cache"]
