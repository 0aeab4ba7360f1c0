"""What test files share: commands, waiting for what happens elsewhere, fakes, models with names, a corpus."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any, TypeVar

import pytest

from wavslm_core.parts import plugins

T = TypeVar("T")
Command = Callable[..., CompletedProcess[str]]
"""Runs a command, which has to end with the exit code `code`: 0 unless it is given."""
Start = Callable[..., Popen[str]]
"""Starts a command without waiting for it."""
MAIN = {"wavslm": "wavslm_core.cli.main", "wavslm-run": "wavslm_core.cli.run"}
EXAMPLE_PATH = Path(__file__).parent / "core" / "plugin_path"
"""Where the example distribution is."""
ONLY_EXAMPLE = {"WAVSLM_PLUGINS": "example", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
"""What a process is told that sees core and the example distribution alone, beside where that is."""
ROLES = ("encoder", "quantizer", "decoder", "backbone", "head", "sampler")
FAKES = {role: {"name": "fake"} for role in ROLES}
"""The parts of a recipe, each the fake of its role."""
SMALL_CODEC = {"run": "train_codec", "batch_size": 2, "crop_seconds": 0.32, "spectral_windows": [256]}
SMALL_LM = {"run": "train_lm", "steps": 2, "batch_size": 2, "crop_tokens": 32}
"""Stages that train fakes on the corpus of noise in a moment; the codec needs its number of steps."""
PATIENCE_S = 300.0
"""Longer than anything takes on a machine that does five things at once."""


def call_main(name: str, *arguments: str | Path | bytes, code: int = 0) -> CompletedProcess[str]:
    """Run an installed command in this process, where torch is imported already."""
    printed = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)]
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(printed[0]),
        redirect_stderr(printed[1]),
    ):
        patch.setattr(sys, "argv", [name, *map(os.fsdecode, arguments)])
        with pytest.raises(SystemExit) as leaving:
            import_module(MAIN[name]).main()
    output, errors = (stream.buffer.getvalue().decode() for stream in printed)  # type: ignore[attr-defined]
    assert "--traceback" in arguments or "Traceback" not in errors, errors
    assert (leaving.value.code, type(leaving.value.code)) == (code, int), (output, errors)
    return CompletedProcess([], code, output, errors)


def run_here(*arguments: str | Path | bytes, cwd: Path, code: int = 0) -> CompletedProcess[str]:
    """Run an installed command in this process and a folder, as it runs without variables of ours."""
    with pytest.MonkeyPatch.context() as patch:
        for key in [key for key in os.environ if key.startswith("WAVSLM")]:
            patch.delenv(key)
        patch.setenv("COLUMNS", "200")
        patch.chdir(cwd)
        name, *rest = arguments
        return call_main(str(name), *rest, code=code)


def run_program(*command: str | Path, code: int = 0, **options: Any) -> CompletedProcess[str]:
    """Run a program to its end, which has to have this exit code."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


def run_without(modules: set[str], *command: str, **options: Any) -> str:
    """Return what an installed command prints, run in a process that has to import none of these modules."""
    program = (
        f"import sys; sys.argv = {[*command]!r}\n"
        f"from {MAIN[command[0]]} import main\n"
        "try:\n    main()\nexcept SystemExit as leaving:\n    assert not leaving.code, leaving.code\n"
        f"found = {modules!r} & {{*sys.modules}}\nassert not found, found\n"
    )
    return run_program(sys.executable, "-c", program, **options).stdout


def environment_without(*prefixes: str) -> dict[str, str]:
    """Return what a process inherits, without the variables whose names begin like this."""
    return {key: value for key, value in os.environ.items() if not key.startswith(prefixes)}


@contextmanager
def held_elsewhere(run_dir: Path) -> Iterator[Popen[str]]:
    """Let another process have a run; it is killed in the end."""
    program = (
        "import sys, time; from pathlib import Path; from wavslm_core.run.lock import RunLock\n"
        "with RunLock(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(run_dir)]
    with Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def sound_bytes(samples: Any, rate_hz: int = 16_000, **options: Any) -> bytes:
    """Return samples as a file in memory; `options` are those of `soundfile.write`, such as `format`."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, **options)
    return buffer.getvalue()


def fake_programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Put programs of a cluster, as they behave at this moment, on the path: name → shell script."""
    (folder / "bin").mkdir(exist_ok=True)
    for name, script in scripts.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")


def until(
    what: str,
    condition: Callable[[], T | None],
    process: Popen[Any] | None = None,
    *,
    seen: Callable[[], object] | None = None,
    every_s: float = 0.02,
) -> T:
    """Return what `condition` gives once that is true; fail with what was waited for, and what `seen` gives.

    A `process` that ends meanwhile ends the waiting too: what it printed is shown.
    """
    __tracebackhide__ = True
    end = time.monotonic() + PATIENCE_S
    while True:
        ended = process is not None and process.poll() is not None
        if found := condition():
            return found
        if ended or time.monotonic() > end:
            break
        time.sleep(every_s)
    shown = f"\n{seen()}" if seen else ""
    if process is not None and ended:
        pytest.fail(f"waited for {what}, but it ended: {process.returncode}, {process.communicate()}{shown}")
    pytest.fail(f"waited {PATIENCE_S:.0f} s for {what}{shown}")


def noise_corpus(folder: Path) -> Path:
    """Write recordings of three seconds of noise, six to train on and three to validate; return where."""
    import torch

    from wavslm_core.data.audio import write_audio

    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 6), ("valid", 3)):
        for number in range(count):
            noise_S = 0.1 * torch.randn(48_000, generator=generator)
            write_audio(folder / split / f"{number}.wav", noise_S, 16_000)
    return folder


BOX = """
from pathlib import Path

from wavslm_core.plugin import hookimpl


@hookimpl
def register_checkpoints(register):
    for place in sorted(Path(__file__).parent.glob("*/*")):
        name, kind = place.parts[-2:]
        if name != "__pycache__":
            register(name, kind=kind, folder=place, about="for tests", license="Apache-2.0")
"""


def bring(monkeypatch: pytest.MonkeyPatch, site: Path, models: Mapping[str, Path]) -> Path:
    """Install a distribution `wavslm-box` of models, given as "name/kind", in place of `wavslm-tiny-models`,
    which has some of these names; return where they lie."""
    package, info = site / "wavslm_box", site / "wavslm_box-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wavslm-box\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[wavslm]\nbox = wavslm_box\n")
    for place, folder in models.items():
        shutil.copytree(folder, package / place)
    (package / "__init__.py").write_text(BOX)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "wavslm_box", raising=False)
    points = [point for point in entry_points(group=plugins.GROUP) if point.name != "tiny_models"]
    loaded = plugins.load_from(points)
    monkeypatch.setattr(plugins, "load", lambda: loaded)
    return package
