"""What a user can do wrong: one clear line, exit code 2, nothing lost."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import soundfile
from safetensors.torch import load_file, save_file

from tests.conftest import run_command
from tests.support import Command, Start, until
from wavslm_core.data.token_files import TokenFile
from wavslm_core.data.token_store import TokenStore

GOOD = {"eight_bit", "good", "rate_96k", "stereo"}
BAD = {
    "empty.wav": "is empty (0 bytes)",
    "header_only.wav": "holds no samples",
    "loud.wav": "audio lies within ±1",
    "nan.wav": "10 NaN or infinite samples, the first at sample 100",
    "text.wav": "cannot be read as audio",
    "cut_flac.flac": "is cut off",
    "cut_ogg.ogg": "is cut off",
    "cut_wav.wav": "is cut off",
    "phone.m4a": ".m4a is none of the formats that can be: convert it to FLAC",
}


def tone(seconds: float, rate_hz: int) -> np.ndarray:
    time_S = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.3 * np.sin(2 * np.pi * 220 * time_S) * np.sin(2 * np.pi * 3 * time_S)).astype(np.float32)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with usable files of odd kinds, and unusable ones."""
    folder = tmp_path_factory.mktemp("zoo")
    wave_S = tone(1.5, 16000)
    soundfile.write(folder / "good.wav", wave_S, 16000)
    soundfile.write(folder / "eight_bit.wav", wave_S, 16000, subtype="PCM_U8")
    soundfile.write(folder / "rate_96k.flac", tone(1.5, 96000), 96000, subtype="PCM_24")
    soundfile.write(folder / "stereo.wav", np.stack([wave_S, -0.5 * wave_S], axis=1), 16000)
    (folder / "notes.txt").write_text("no audio, and not called so")
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("no audio, but called so\n" * 9)
    soundfile.write(folder / "header_only.wav", wave_S[:0], 16000)
    soundfile.write(folder / "loud.wav", 30000 * wave_S, 16000, subtype="FLOAT")
    wave_S[100:110] = np.nan
    soundfile.write(folder / "nan.wav", wave_S, 16000, subtype="FLOAT")
    soundfile.write(folder / "whole.ogg", tone(1.5, 16000), 16000)
    for name, source in [("cut_wav", "good.wav"), ("cut_flac", "rate_96k.flac"), ("cut_ogg", "whole.ogg")]:
        content = (folder / source).read_bytes()
        (folder / f"{name}{Path(source).suffix}").write_bytes(content[: len(content) // 2])
    (folder / "whole.ogg").unlink()
    (folder / "phone.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(200))
    return folder


def only_error(done: CompletedProcess[str]) -> str:
    """Return the one line that a command left with exit code 2."""
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


def test_in_folders_bad_files_are_skipped_and_listed(
    run: Command, small_run: Path, zoo: Path, tmp_path: Path
) -> None:
    done = run("wavslm", "encode", small_run, zoo, "--out", "tokens")
    assert {path.stem for path in (tmp_path / "tokens").iterdir()} == GOOD
    lines = done.stderr.splitlines()
    assert len(lines) == len(BAD)
    for name, said in BAD.items():
        (line,) = [line for line in lines if line.startswith(f"skipped: {zoo / name} ")]
        assert said in line
    assert "4 recordings (6.0 s, 300 tokens) → tokens, 9 skipped" in done.stdout


def test_named_directly_they_are_refused(run: Command, small_run: Path, zoo: Path, tmp_path: Path) -> None:
    for verb, name in [("encode", "nan.wav"), ("generate", "notes.txt")]:
        done = run("wavslm", verb, small_run, zoo / name, code=2)
        assert f"{zoo / name} " in only_error(done)
    nothing = run("wavslm", "decode", small_run, zoo / "good.wav", code=2)
    assert "is no token file, or damaged" in only_error(nothing)
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_with_bad_files_is_trained_on_without_them(
    run: Command, small_recipe: Path, zoo: Path, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(zoo, corpus / "train")
    (corpus / "valid").mkdir()
    shutil.copy(zoo / "good.wav", corpus / "valid")
    data = f"data={{corpus: folder, path: {corpus}}}"
    run("wavslm-run", small_recipe, data, "stages.train_codec.steps=12")
    (folder,) = (tmp_path / "runs").glob("small-*")
    result = json.loads((folder / "results" / "tokenize.json").read_text())["splits"]["train"]
    assert (result["utterances"], result["rejected"]) == (len(GOOD), len(BAD))
    listed = (folder / "tokens" / "train" / "rejected.jsonl").read_text().splitlines()
    rejected = {item["id"]: item["reason"] for item in map(json.loads, listed)}
    assert rejected.keys() == {f"train/{name}" for name in BAD}
    assert all(said in rejected[f"train/{name}"] for name, said in BAD.items())


def test_parts_and_stages_that_do_not_fit(run: Command, small_recipe: Path, tmp_path: Path) -> None:
    widths = run("wavslm-run", small_recipe, "decoder.input_dim=48", "head.vocab_size=512", code=2)
    assert "decoder.input_dim is 48, but the quantizer has output_dim 32. Leave" in widths.stderr
    assert "head.vocab_size is 512, but the quantizer has vocab_size 256. Leave" in widths.stderr
    crop = "stages=[{run: train_lm, steps: 1, crop_tokens: 30}]"
    train = run("wavslm-run", small_recipe, crop, code=2)
    assert "stages.0.train_lm.crop_tokens: given 30; it should be a multiple of 4" in train.stderr
    speak = run("wavslm-run", small_recipe, "stages=[{run: generate, sampler: {name: top_q}}]", code=2)
    assert "stages.0.generate.sampler: no sampler is called 'top_q'. Did you mean 'top_p'?" in speak.stderr
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_with_missing_and_misshapen_weights(
    run: Command, small_run: Path, zoo: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_run / "codec", tmp_path / "codec")
    weights = tmp_path / "codec" / "model.safetensors"
    state = load_file(weights)
    missing = [key for key in state if key.startswith("decoder.") and "norm" in key]
    for key in missing:
        del state[key]
    key = next(key for key in state if key.startswith("decoder.") and state[key].ndim == 2)
    shape = list(state[key].shape)
    state[key] = state[key][:3]
    save_file(state, weights)
    line = only_error(run("wavslm", "encode", "codec", zoo / "good.wav", code=2))
    assert "the decoder in codec does not fit Istft (" in line
    assert f"{len(missing)} missing (backbone.input_norm.weight, " in line
    assert f"{key.removeprefix('decoder.')} is [3, {shape[1]}], expected {shape}" in line
    weights.write_bytes(weights.read_bytes()[:5000])
    line = only_error(run("wavslm", "encode", "codec", zoo / "good.wav", code=2))
    assert "model.safetensors is truncated or damaged" in line
    assert not (tmp_path / "tokens").exists()


def test_a_full_disk_stops_a_run_that_goes_on_when_there_is_space(
    small_recipe: Path, small_disk: Callable[[str], Path], tmp_path: Path
) -> None:
    disk = small_disk("3m")
    # In processes of their own: a corpus that is read keeps its disk busy.
    first = run_command("wavslm-run", small_recipe, "--runs-dir", disk / "runs", cwd=tmp_path, code=2)
    line = only_error(first)
    assert "disk is full" in line or "No space left on device" in line
    assert not [path for path in disk.rglob("*") if path.name.startswith(".writing-")]
    small_disk("64m")
    run_command("wavslm-run", small_recipe, "--runs-dir", disk / "runs", cwd=tmp_path)
    (folder,) = (disk / "runs").glob("small-*")
    assert TokenStore.open(folder / "tokens" / "valid").total_tokens > 0


def test_a_full_disk_leaves_no_half_written_recording(
    run: Command, small_run: Path, small_disk: Callable[[str], Path], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "long.wav", tone(10, 16000), 16000)
    disk = small_disk("64k")
    run("wavslm", "encode", small_run, "long.wav", "--out", disk)
    line = only_error(run("wavslm", "decode", small_run, disk, "--out", disk, code=2))
    assert f"cannot write {disk / 'long.wav'}: No space left on device. Free some space" in line
    assert [path.name for path in disk.iterdir()] == ["long.npz"]


def test_ctrl_c_saves_a_checkpoint_and_the_same_command_continues(
    run: Command, start: Start, small_recipe: Path, tmp_path: Path
) -> None:
    codec = (
        "{run: train_codec, batch_size: 2, crop_seconds: 0.5, log_every: 1, valid_utterances: 2, steps: 60}"
    )
    arguments = ["wavslm-run", small_recipe, f"stages=[{codec}]"]
    process = start(*arguments, cwd=tmp_path)
    until(
        "a step", lambda: any(path.stat().st_size for path in tmp_path.glob("runs/*/metrics.jsonl")), process
    )
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "interrupted during stage train_codec; to continue: wavslm-run" in errors
    assert "Traceback" not in errors
    (checkpoint,) = tmp_path.glob("runs/small-*/checkpoints/train_codec/step-*.pt")
    step = int(checkpoint.stem.removeprefix("step-"))
    assert 0 < step < 60
    done = run(*arguments)
    assert f"train_codec: continuing from step {step}" in done.stderr


def test_ctrl_c_leaves_whole_token_files(start: Start, small_run: Path, zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for number in range(3000):
        (tmp_path / "many" / f"{number:04d}.wav").symlink_to(zoo / "good.wav")
    process = start("wavslm", "encode", small_run, "many", "--out", "tokens", cwd=tmp_path)
    # A glob finds hidden files too, and one that is being written is such a one.
    until("three files", lambda: len([*tmp_path.glob("tokens/[!.]*.npz")]) > 2, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert errors == "interrupted; every file that was written is whole and kept\n"
    written = list((tmp_path / "tokens").iterdir())
    assert 2 < len(written) < 3000
    assert {TokenFile.read(path).samples for path in written} == {24000}
