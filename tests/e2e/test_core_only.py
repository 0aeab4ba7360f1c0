"""A built core wheel works alone, and says what to install when a recipe needs a missing part."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(bin_folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "WAVSLM"))
    }
    return subprocess.run(
        [bin_folder / command[0], *command[1:]],
        capture_output=True,
        text=True,
        env=environment,
        cwd=bin_folder,
        check=False,
    )


def test_the_core_lists_its_own_parts_only(core_only: Path) -> None:
    listed = run(core_only, "wavslm", "plugins")
    assert listed.returncode == 0, listed.stderr
    assert "wavslm-core" in listed.stdout
    assert "wavslm-wavlm" not in listed.stdout


def test_a_recipe_names_what_to_install(core_only: Path) -> None:
    checked = run(core_only, "wavslm", "recipe", "check", str(ROOT / "recipes" / "wavslm_tiny.yaml"))
    assert checked.returncode == 2
    for distribution in (
        "wavslm-wavlm",
        "wavslm-focalcodec-stream",
        "wavslm-next-chunk",
        "wavslm-samplers",
        "wavslm-tiny-speech",
    ):
        assert f"pip install ./plugins/{distribution}" in checked.stderr
    assert "Traceback" not in checked.stderr


def test_official_checkpoints_name_what_reads_them(core_only: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "frozen.yaml"
    recipe.write_text("name: frozen\ncodec: {checkpoint: lucadellalib/focalcodec_50hz_4k_causal}\n")
    checked = run(core_only, "wavslm", "recipe", "check", str(recipe))
    (tmp_path / "config.json").write_text('{"encoder_name": "WavLM", "decoder_name": "WaveNeXt"}')
    loaded = run(core_only, "python", "-c", f"from wavslm_core import Codec; Codec.load({str(tmp_path)!r})")
    assert checked.returncode == 2, checked.stderr
    for refused in (checked, loaded):
        assert (
            "'focalcodec' comes with wavslm-focalcodec-stream, in a clone of wavslm: pip install"
            in refused.stderr
        )


def test_the_core_writes_plugins(core_only: Path, tmp_path: Path) -> None:
    written = run(core_only, "wavslm", "new-plugin", "mine", "--role", "head", "--into", str(tmp_path))
    assert written.returncode == 0, written.stderr
    assert (tmp_path / "wavslm-mine" / "wavslm_mine" / "head.py").exists()


def test_the_wheel_has_every_file(core_only: Path) -> None:
    (package,) = core_only.parent.glob("lib/python*/site-packages/wavslm_core")
    source = ROOT / "wavslm_core"
    files = {path.relative_to(source) for path in source.rglob("*") if "__pycache__" not in path.parts}
    assert Path("report/run.html") in files
    assert [str(path) for path in sorted(files) if not (package / path).exists()] == []


def test_the_core_computes_with_its_fakes(core_only: Path) -> None:
    code = (
        "import torch; from wavslm_core.testing.fakes import fake_codec, fake_speech_lm;"
        "prompt = torch.zeros(1, 8, dtype=torch.int64);"
        "print(fake_speech_lm(fake_codec()).generate(prompt, new_tokens=4).shape)"
    )
    computed = run(core_only, "python", "-c", code)
    assert "torch.Size([1, 4])" in computed.stdout, computed.stderr
