"""The operators of this plugin."""

import pytest

from wavslm_core.machine.timings import FOLDER_VARIABLE
from wavslm_inductor.kernels import load_kernels
from wavslm_inductor.packages import has_compiler


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The operators, built and loaded."""
    if not has_compiler():
        pytest.skip("no C++ compiler is found here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(tmp_path_factory.mktemp("kernels")))
        load_kernels()
