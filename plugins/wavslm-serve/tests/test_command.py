"""`wavslm serve` from a shell."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch
from loopback import PATIENCE_S, command, model_of

from wavslm_core.errors import WavslmError
from wavslm_serve.command import serve
from wavslm_serve.trial import fastest_threads


@pytest.mark.slow
def test_it_says_where_it_is_and_stops_with_ctrl_c(tmp_path: Path) -> None:
    with command(tmp_path / "model", model_of()) as (process, address):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{address}/health", timeout=PATIENCE_S) as answer:
            assert json.load(answer)["status"] == "ok"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (0, "stopped\n"), err
    assert "Traceback" not in err


@pytest.mark.slow
def test_threads_of_torch_do_not_wait_in_a_loop() -> None:
    """They would take the core from what they wait for; torch tells what it was told as it is imported."""
    program = "import sys; sys.argv = ['wavslm', 'serve', 'no-such-model', '--port', '0']\n"
    program += "from wavslm_core.cli.main import main\nmain()"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    for own, policy in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**kept, **own, "OMP_DISPLAY_ENV": "TRUE"},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert "no-such-model" in done.stderr
        if "OMP_WAIT_POLICY" not in done.stderr:
            pytest.skip("this torch has another OpenMP, which does not tell")
        assert f"OMP_WAIT_POLICY = '{policy}'" in done.stderr


def test_one_thread_computes_unless_several_are_faster() -> None:
    """Operators of a model that is this small are over before a second thread has begun."""
    model, slow = model_of(), [0.0]
    model.backbone.gru.register_forward_hook(
        lambda *_: time.sleep(slow[0] if torch.get_num_threads() == 1 else 0.005)
    )
    before = torch.get_num_threads()
    try:
        # What two threads cost beside busy neighbours is little to a tenth of a second.
        for seconds, threads in ((0.0, 1), (0.005, 1), (0.1, 2)):
            torch.set_num_threads(2)
            slow[0] = seconds
            assert fastest_threads(model) == threads == torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def test_a_port_that_is_taken_is_said_before_anything_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(WavslmError, match=f"port {port}: Address already in use; give another --port"):
            serve("nowhere", port=port, host="127.0.0.1")


def test_an_address_that_is_not_there_is_said() -> None:
    with pytest.raises(WavslmError, match=r"nothing can listen at 192\.0\.2\.1, port 0: .*; give another"):
        serve("nowhere", port=0, host="192.0.2.1")
