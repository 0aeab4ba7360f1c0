"""The two commands: what they print, how they end, and that listing and checking import no torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.support import Command, bring, run_program, run_without
from wavslm_core.cli.main import GROUPS, VERBS
from wavslm_core.machine.terminal import byte_text
from wavslm_core.testing.fakes import fake_codec, fake_speech_lm

CLI = Path(__file__).parents[3] / "wavslm_core" / "cli"
RECIPE = """
name: one
encoder: {name: fake, dim: 24}
quantizer: {name: fake}
decoder: {name: fake}
backbone: {name: fake}
head: {name: fake}
data: {corpus: tone, minutes: 60}
stages: [{run: count}, {run: learn, steps: 1000}]
"""


@pytest.fixture(autouse=True)
def _recipe(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)


def test_show_prints_what_loads_again(tmp_path: Path, command: Command) -> None:
    shown = command("main", "recipe", "show", "r.yaml", "seed=7")
    assert "input_dim: 24" in shown.stdout
    (tmp_path / "again.yaml").write_text(shown.stdout)
    assert command("main", "recipe", "show", "again.yaml").stdout == shown.stdout


def test_check_says_what_follows_or_what_is_wrong(command: Command) -> None:
    fine = command("main", "recipe", "check", "r.yaml")
    assert "50 tokens a second of 32 codes, streams at 80 ms latency" in fine.stdout
    wrong = command("main", "recipe", "check", "r.yaml", "head.chunk_tokns=3", "sede=1", code=2)
    assert [line.split(":")[0] for line in wrong.stderr.splitlines()] == ["error", "error"]
    assert "Did you mean 'chunk_tokens'?" in wrong.stderr
    assert wrong.stdout == ""


def test_schema_describes_recipes(command: Command) -> None:
    schema = json.loads(command("main", "recipe", "schema").stdout)
    assert schema["properties"]["seed"]["description"] == "Every random number of a run follows from it."
    quantizers = schema["properties"]["quantizer"]["anyOf"][0]
    assert set(quantizers["discriminator"]["mapping"]) == {"fake", "nested"}
    assert schema["$defs"]["CountConfig"]["properties"]["steps"]["description"] == "How far to count."
    assert "extends" in schema["properties"]
    for_all, by_split = schema["$defs"]["ToneConfigForAll"], schema["$defs"]["DataBySplit"]
    assert "augment" in for_all["properties"].keys() & by_split["properties"].keys()


def test_every_verb_is_known() -> None:
    files = {path.stem for path in CLI.glob("*.py") if f"\ndef {path.stem}(" in path.read_text()}
    assert {name.replace("_", "-") for name in files} == {*VERBS} - {*GROUPS} | {"main", "run"}


def test_plugins_in_both_forms(command: Command) -> None:
    listed = {plugin["name"]: plugin for plugin in json.loads(command("main", "plugins", "--json").stdout)}
    assert listed["example"]["distribution"] == "wavslm-example"
    assert listed["example"]["roles"]["corpus"] == ["shelf", "tone"]
    table = command("main", "plugins").stdout
    assert "wavslm-example" in table
    assert "corpus: shelf, tone" in table


def test_models_in_a_box_are_listed_and_a_dry_run_says_where_they_are(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = fake_codec()
    codec.save(tmp_path / "made" / "codec")
    fake_speech_lm(codec).save(tmp_path / "made" / "lm")
    monkeypatch.setenv("WAVSLM_PLUGINS", "example,box")
    made = {"tiny/codec": tmp_path / "made" / "codec", "tiny/speech_lm": tmp_path / "made" / "lm"}
    folder = bring(monkeypatch, tmp_path / "site", made) / "tiny" / "codec"
    size = sum(path.stat().st_size for path in folder.iterdir())
    listed = {plugin["name"]: plugin for plugin in json.loads(command("main", "plugins", "--json").stdout)}
    assert listed["box"]["checkpoints"][0] == {
        "name": "tiny",
        "kind": "codec",
        "about": "for tests",
        "license": "Apache-2.0",
        "folder": str(folder),
        "bytes": size,
    }
    assert listed["example"]["checkpoints"] == []
    assert (
        f"checkpoint: tiny (codec), {byte_text(size)}, Apache-2.0: for tests"
        in command("main", "plugins").stdout
    )
    parts = ["encoder=null", "quantizer=null", "decoder=null", "codec.checkpoint=tiny"]
    sampler = "sampler={name: fake}"
    start = "stages=[{run: tokenize}, {run: train_lm, steps: 2, crop_tokens: 8, init: tiny}]"
    noise = "data.augment={noise: {}, target: clean}"
    done = command("run", "r.yaml", *parts, sampler, start, noise, "--dry-run")
    words = " ".join(done.stdout.split())
    assert "augmented in training: noise of 50%; target clean" in words
    assert f"codec checkpoint: tiny (of wavslm-box 1.0, {folder}, {byte_text(size)})" in words, done.stderr
    assert f"starts from tiny (of wavslm-box 1.0, {folder.with_name('speech_lm')}, " in words
    done = command("run", "r.yaml", *parts[:3], "codec.checkpoint=tinny", "--dry-run", code=2)
    assert "codec.checkpoint: no folder 'tinny' exists" in done.stderr
    assert "Did you mean 'tiny'? There are: tiny (wavslm-box 1.0)." in done.stderr


def test_a_broken_plugin_is_listed_and_takes_nothing_down(
    tmp_path: Path, example_environment: dict[str, str]
) -> None:
    info = tmp_path / "path" / "broken-2.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[wavslm]\nbroken = broken_plugin\n")
    (tmp_path / "path" / "broken_plugin.py").write_text("import sys\nsys.exit('no licence')\n")
    environment = {
        **example_environment,
        "PYTHONPATH": f"{tmp_path / 'path'}:{example_environment['PYTHONPATH']}",
        "WAVSLM_PLUGINS": "example,broken",
    }

    wavslm = partial(run_program, sys.executable, "-m", "wavslm_core.cli.main", env=environment, cwd=tmp_path)
    table = wavslm("plugins")
    assert table.stdout.endswith("\nbroken of broken failed to load: SystemExit: no licence\n")
    assert "corpus: shelf, tone" in table.stdout
    unknown = wavslm("hum", code=2)
    assert "no command 'hum', unless a plugin that failed to load has it" in unknown.stderr
    assert "(Plugin broken failed to load: SystemExit: no licence" in unknown.stderr
    wrong = wavslm("recipe", "check", "r.yaml", "sampler.name=nucleus", code=2)
    assert "no sampler is called 'nucleus'" in wrong.stderr
    assert "(Plugin broken failed to load: SystemExit: no licence; update, reinstall" in wrong.stderr


def test_a_dry_run_prints_the_plan_and_leaves_nothing(tmp_path: Path, command: Command) -> None:
    done = command("run", "r.yaml", "--dry-run")
    words = " ".join(done.stdout.split())
    encoder = 320 * 24 + 24
    assert f"encoder fake {encoder:,} sample_rate_hz 16000" in words
    assert "train tone 1.00 180,000 360 kB" in words
    assert "count steps 3, numbers 3" in words
    assert "learn steps 1,000" in words
    assert "50 tokens/s, 250 bit/s, chunk 4 tokens = 80 ms, 80 ms latency" in words
    assert "run folder: runs/one-" in words
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_warns_of_what_cannot_fit(command: Command) -> None:
    assert "warning" not in command("run", "r.yaml", "launch.device=cpu", "--dry-run").stdout
    done = command("run", "r.yaml", "encoder.dim=10000000000", "launch.device=cpu", "--dry-run")
    assert re.search(
        r"^warning: learn needs [\d.]+ TB in each process .* this machine has", done.stdout, re.M
    )


def test_a_dry_run_of_a_part_that_cannot_be_built_says_so(command: Command) -> None:
    done = command("run", "r.yaml", "quantizer.name=nested", "backbone.input=embedding", "--dry-run")
    words = " ".join(done.stdout.split())
    assert "cannot be built: PluginError: quantizer 'nested' of wavslm-example" in words


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run",), "Missing argument 'RECIPE'"),
        (("run", "nowhere.yaml"), "error: there is no recipe 'nowhere.yaml'"),
        (("run", "r.yaml", "--launcher", "slrum"), "no launcher is called 'slrum'"),
        (("run", "r.yaml", "--nothing"), "No such option"),
        (("main", "recipe", "chekc"), "No such command"),
    ],
)
def test_wrong_commands_end_with_two(command: Command, arguments: tuple[str, ...], said: str) -> None:
    done = command(*arguments, code=2)
    assert said in done.stderr


def test_launcher_option_goes_over_the_recipe(tmp_path: Path, command: Command) -> None:
    (tmp_path / "child.yaml").write_text("extends: r.yaml\nlaunch: {on: local, process: child}\n")
    assert "in a child process through submitit" in command("run", "child.yaml", "--dry-run").stdout
    debug = command("run", "child.yaml", "--dry-run", "--launcher", "debug")
    assert "would run in this process" in debug.stdout
    local = command("run", "child.yaml", "--dry-run", "--launcher", "local")
    assert "in a child process through submitit" in local.stdout


def test_a_reader_that_leaves_early_is_no_error(example_environment: dict[str, str]) -> None:
    wavslm = f"{sys.executable} -m wavslm_core.cli.main recipe schema"
    shell = f"set -o pipefail; {wavslm} | head -c 1"
    assert run_program("bash", "-c", shell, env=example_environment).stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["wavslm", "--help"],
        ["wavslm", "--version"],
        ["wavslm", "plugins"],
        ["wavslm", "recipe", "check", "r.yaml"],
        ["wavslm", "recipe", "schema"],
        ["wavslm-run", "--help"],
    ],
)
@pytest.mark.parametrize("plugins", ["example", None])
def test_no_torch_without_need(
    tmp_path: Path, example_environment: dict[str, str], arguments: list[str], plugins: str | None
) -> None:
    """With `plugins` None, everything that is really installed is loaded too."""
    if plugins is None:
        del example_environment["WAVSLM_PLUGINS"]
    heavy = {"torch", "torchaudio", "transformers", "matplotlib", "scipy"}
    run_without(heavy, *arguments, env=example_environment, cwd=tmp_path)


@pytest.mark.slow
def test_doctor_says_whether_other_programs_can_import_torchaudio(command: Command) -> None:
    importing = [sys.executable, "-c", "import torchaudio"]
    plain = subprocess.run(importing, capture_output=True, text=True, check=False)
    done = command("main", "doctor")
    last = done.stdout.splitlines()[-1]
    if plain.returncode == 0:
        assert last == "all is well"
    else:
        assert "OSError" in plain.stderr
        assert last.startswith(
            "wavslm is well; other software is not: `import torchaudio` fails with an OSError"
        )
        assert "pip install --force-reinstall --no-deps torchaudio" in last
        assert "load_torchaudio() before importing it" in last
