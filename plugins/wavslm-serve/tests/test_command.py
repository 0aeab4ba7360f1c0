"""`wavslm serve` from a shell."""

from __future__ import annotations

import json
import signal
import socket
import urllib.request
from pathlib import Path

import pytest
from loopback import PATIENCE_S, command, model_of

from wavslm_core.errors import WavslmError
from wavslm_serve.command import serve


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


def test_a_port_that_is_taken_is_said_before_anything_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(WavslmError, match=f"port {port}: Address already in use; give another --port"):
            serve("nowhere", port=port, host="127.0.0.1")


def test_an_address_that_is_not_there_is_said() -> None:
    with pytest.raises(WavslmError, match=r"nothing can listen at 192\.0\.2\.1, port 0: .*; give another"):
        serve("nowhere", port=0, host="192.0.2.1")
