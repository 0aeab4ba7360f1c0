"""An environment without the reference plugins."""

import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.support import run_program

ROOT = Path(__file__).resolve().parents[2]

collect_ignore = ["third_party"]
"""Its tests run where it is installed."""


@pytest.fixture(scope="session")
def core_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `bin` folder of an environment that holds the built core wheel and no plugin."""
    folder = tmp_path_factory.mktemp("core_only")
    wheels = folder / "wheels"
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", wheels, ROOT]
    run_program(sys.executable, "-m", "pip", *build)
    venv.create(folder / "venv", symlinks=True)
    environment = folder / "venv"
    packages = next((environment / "lib").glob("python*")) / "site-packages"
    # Third-party packages are linked, not copied; whatever is ours stays out.
    for place in Path(sysconfig.get_path("purelib")).iterdir():
        ours = "wavslm" in place.name or place.suffix == ".pth" or place.name.startswith("__editable__")
        if not ours and place.name != "__pycache__":
            (packages / place.name).symlink_to(place)
    (wheel,) = wheels.glob("wavslm_core-*.whl")
    python = environment / "bin" / "python"
    run_program(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    return environment / "bin"
