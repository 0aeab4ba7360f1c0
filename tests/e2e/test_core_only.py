"""A built core wheel works alone, and says what to install when a recipe needs a missing part."""

from pathlib import Path
from subprocess import CompletedProcess

from tests.support import environment_without, run_program

ROOT = Path(__file__).resolve().parents[2]


def run(bin_folder: Path, name: str, *arguments: str, code: int = 0) -> CompletedProcess[str]:
    environment = environment_without("PYTHON", "WAVSLM")
    return run_program(bin_folder / name, *arguments, code=code, env=environment, cwd=bin_folder)


def test_the_core_lists_its_own_parts_only(core_only: Path) -> None:
    listed = run(core_only, "wavslm", "plugins")
    assert "wavslm-core" in listed.stdout
    assert "wavslm-wavlm" not in listed.stdout


def test_a_recipe_names_what_to_install(core_only: Path) -> None:
    recipe = str(ROOT / "recipes" / "wavslm_scratch.yaml")
    checked = run(core_only, "wavslm", "recipe", "check", recipe, code=2)
    for plugin in ("wavlm", "focalcodec-stream", "next-chunk", "samplers", "tiny-speech"):
        assert f"pip install ./plugins/wavslm-{plugin}" in checked.stderr
    assert "Traceback" not in checked.stderr


def test_official_checkpoints_name_what_reads_them(core_only: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "frozen.yaml"
    recipe.write_text("name: frozen\ncodec: {checkpoint: lucadellalib/focalcodec_50hz_4k_causal}\n")
    checked = run(core_only, "wavslm", "recipe", "check", str(recipe), code=2)
    (tmp_path / "config.json").write_text('{"encoder_name": "WavLM", "decoder_name": "WaveNeXt"}')
    load = f"from wavslm_core import Codec; Codec.load({str(tmp_path)!r})"
    loaded = run(core_only, "python", "-c", load, code=1)
    for refused in (checked, loaded):
        assert (
            "'focalcodec' comes with wavslm-focalcodec-stream, in a clone of wavslm: pip install"
            in refused.stderr
        )


def test_the_core_writes_plugins(core_only: Path, tmp_path: Path) -> None:
    run(core_only, "wavslm", "new-plugin", "mine", "--role", "head", "--into", str(tmp_path))
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
