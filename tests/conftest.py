"""The installed commands, and a small model of the reference plugins that they trained in seconds."""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from subprocess import PIPE, CompletedProcess, Popen
from tempfile import TemporaryDirectory

import pytest

from tests.support import Command, Start, environment_without, run_here

SMALL_RECIPE = """
name: small
encoder:
  {name: wavlm, causal: true, hidden_dims: [16, 16, 16, 32, 32, 32, 32], num_layers: 1, dim: 32, ffn_dim: 64,
   num_heads: 2, conv_pos: 16, window_size: 8}
quantizer:
  name: focalcodec_stream
  codebook_size: 256
  compressor: {hidden_dims: [32], downscale_factors: [1], focal_window: 3, focal_factor: 2, window_size: 8}
  decompressor:
    {hidden_dims: [32], upscale_factors: [1], focal_window: 3, focal_factor: 2, window_size: 8,
     last_window_size: 8}
decoder: {name: istft, dim: 32, ffn_dim: 64, num_layers: 1, n_fft: 1280}
backbone: {name: wavlm_upper, num_layers: 1, dim: 32, ffn_dim: 64, num_heads: 2, window_size: 32}
head: {name: next_chunk, chunk_tokens: 4}
sampler: {name: top_p, p: 0.8}
data: {corpus: tiny_speech, minutes: 1, valid_minutes: 0.2}
stages:
  - {run: train_codec, steps: 3, batch_size: 2, crop_seconds: 0.5, continuous_steps: 1, valid_utterances: 2}
  - {run: tokenize}
  - {run: train_lm, steps: 4, batch_size: 2, crop_tokens: 32}
launch: {device: cpu}
"""


GUARDS = Path(__file__).parent / "guards"
LONG = ("docs", "e2e", "slurm")
"""Folders whose files take a minute or two each: they begin first, so that no worker is left alone with one
at the end, and in turns, since those of SLURM mostly wait while others compute."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without the garbage collector: it takes a fifth of the time, and all that is imported stays.

    Nor does it look through that later, again and again and once more at the end.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000)
        gc.enable()


def pytest_unconfigure() -> None:
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    turns: dict[str, list[Path]] = {}

    def turn(item: pytest.Item) -> tuple[bool, int]:
        folder = item.path.parent
        if folder.parent != Path(__file__).parent or folder.name not in LONG:
            return True, 0
        files = turns.setdefault(folder.name, [])
        if item.path not in files:
            files.append(item.path)
        return False, files.index(item.path)

    for item in items:
        place = item.path.parent
        long = place.parent == Path(__file__).parent and place.name in ("fuzz", *LONG)
        # Of every part's contract, exporting takes as long as all the rest.
        if long or item.name in ("test_export", "test_exported_steps"):
            item.add_marker(pytest.mark.slow)
    items.sort(key=turn)


# Hundreds of processes of the tests would compile all that they import, each anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_unpickled() -> None:
    """Put every process that tests start under `guards/sitecustomize.py`."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(GUARDS), os.environ.get("PYTHONPATH")]))


def installed_command(name: str) -> str:
    """Return the path of a command of this environment."""
    path = Path(sys.executable).with_name(name)
    assert path.exists(), f"{path} is missing; install the packages with pip first"
    return str(path)


def start_command(*arguments: str | Path | bytes, cwd: Path) -> Popen[str]:
    """Start an installed command without waiting for it."""
    name, *rest = arguments
    return Popen(
        [installed_command(str(name)), *rest],
        stdout=PIPE,
        stderr=PIPE,
        text=True,
        cwd=cwd,
        env={**environment_without("WAVSLM"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        # Tests that were started in the background have inherited that Ctrl-C is ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def run_command(*arguments: str | Path | bytes, cwd: Path, code: int = 0) -> CompletedProcess[str]:
    """Run an installed command in a folder. Whatever happens, it shows nobody a traceback."""
    with start_command(*arguments, cwd=cwd) as process:
        output, errors = process.communicate(timeout=900)
    assert "Traceback" not in errors, errors
    assert process.returncode == code, (process.returncode, output, errors)
    return CompletedProcess([], code, output, errors)


@pytest.fixture
def start() -> Start:
    return start_command


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """As `run_command`, but in this process and, unless told otherwise, in the test's own folder."""

    def call(*arguments: str | Path | bytes, cwd: Path = tmp_path, code: int = 0) -> CompletedProcess[str]:
        # What the test does next has this folder, too.
        monkeypatch.chdir(cwd)
        return run_here(*arguments, cwd=cwd, code=code)

    return call


@pytest.fixture(scope="session")
def small_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that trains a codec and a language model of the reference plugins in seconds."""
    path = tmp_path_factory.mktemp("small_recipe") / "small.yaml"
    path.write_text(SMALL_RECIPE)
    return path


@pytest.fixture(scope="session")
def small_run(small_recipe: Path) -> Path:
    """The run folder of `small_recipe`, finished. Copy it before changing anything in it."""
    run_here("wavslm-run", small_recipe, "--runs-dir", "runs", cwd=small_recipe.parent)
    (folder,) = (small_recipe.parent / "runs").glob("small-*")
    return folder


@pytest.fixture
def somebody_else() -> Callable[[], AbstractContextManager[None]]:
    """Makes contexts inside which this process has the rights of a user who owns nothing."""
    if os.geteuid() != 0:
        pytest.skip("becoming somebody else needs root")

    @contextmanager
    def become() -> Iterator[None]:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)

    return become


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that every user can enter and read."""
    with TemporaryDirectory(prefix="wavslm-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a file system of a given size, such as "512k", or change its size."""
    folder = tmp_path / "disk"

    def mount(size: str) -> Path:
        remount = folder.exists()
        folder.mkdir(exist_ok=True)
        options = f"remount,size={size}" if remount else f"size={size}"
        try:
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, capture_output=True
            )
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("mounting a small file system needs root")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)
