"""The page: it is served whole, speaks the protocol, and its audio thread resamples and bridges gaps.

What needs a browser is in `test_browser.py`; the audio thread's code runs in Node, where there is one.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any, get_args

import pytest
from loopback import CHUNK, PATIENCE_S, RATE, Served

import wavslm_serve
from wavslm_core.data.audio import read_audio
from wavslm_serve import protocol

PAGE = Path(wavslm_serve.__file__).parent / "page"
HTML, SCRIPT = ((PAGE / name).read_text(encoding="utf-8") for name in ("index.html", "page.js"))
PROMPTS = re.findall(r'"(prompts/[^"]+)"', SCRIPT)


def test_all_that_it_names_is_served_and_nothing_of_others_is_let_in(served: Served) -> None:
    named = [*re.findall(r'(?:src|href)="([^"#:]+)"', HTML), *re.findall(r'addModule\("([^"]+)"', SCRIPT)]
    assert {"page.js", "page.css", "worklet.js"} == {*named}
    kinds = {".js": "javascript", ".css": "text/css", ".flac": "audio/", "": "text/html"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for name in ("", *named, *PROMPTS):
        with opener.open(f"{served.url}/{name}", timeout=PATIENCE_S) as answer:
            assert kinds[Path(name).suffix] in answer.headers["Content-Type"], name
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")
            assert answer.read() == (PAGE / (name or "index.html")).read_bytes()
    assert served.ask("/../app.py")[0] == 404
    assert not re.search(r"https?://(?!localhost)", HTML + SCRIPT.replace("https:// address", ""))


def test_its_script_finds_what_it_looks_for() -> None:
    wanted = {*re.findall(r'\$\("([\w-]+)"\)', SCRIPT)}
    assert len(wanted) > 15
    assert wanted <= {*re.findall(r'id="([\w-]+)"', HTML)}


def test_it_says_and_understands_what_the_protocol_has() -> None:
    said = {*re.findall(r'{ type: "(\w+)"', SCRIPT)}
    messages = (protocol.Start, protocol.Speak, protocol.Stop, protocol.Reset, protocol.End)
    known = {get_args(message.model_fields["type"].annotation)[0] for message in messages}
    assert {"start", "speak", "stop", "end"} <= said <= known
    understood = {*re.findall(r'message\.type === "(\w+)"', SCRIPT)}
    assert understood == {"started", "spoke", "error", "ended"}


def test_prompts_that_come_with_it_are_speech_to_go_on_after() -> None:
    assert len(PROMPTS) == len([*(PAGE / "prompts").iterdir()]) == 3
    for name in PROMPTS:
        assert 20 * CHUNK < len(read_audio(PAGE / name, sample_rate_hz=RATE)) < 10 * RATE


@pytest.fixture(scope="module")
def worklet() -> dict[str, Any]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no `node` to run the page's audio thread")
    check = Path(__file__).with_name("worklet_check.mjs")
    done = subprocess.run([node, check, PAGE / "worklet.js"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_tone_stays_a_tone_at_every_rate_and_what_is_too_high_is_gone(worklet: dict[str, Any]) -> None:
    assert len(worklet["captured"]) == 12
    for heard in worklet["captured"]:
        # In pieces of 320; what fills none waits.
        assert heard["samples"] % 320 == 0
        assert RATE - 640 < heard["samples"] <= RATE
        if heard["hertz"] < 8000:
            assert heard["amplitude"] == pytest.approx(0.5, abs=1e-3), heard
        else:
            assert heard["amplitude"] < 1e-3, heard
        assert heard["rest"] < 1e-3, heard


def test_speech_is_played_whole_and_a_gap_makes_it_wait_longer(worklet: dict[str, Any]) -> None:
    assert [played["rate"] for played in worklet["played"]] == [16000, 44100, 48000, 96000]
    for played in worklet["played"]:
        assert [next(iter(told)) for told in played["told"]] == ["first", "underruns", "done"]
        (gap,) = played["gap"]
        assert (gap["underruns"], gap["target"]) == (1, pytest.approx(0.12))
        # Zero crossings of the tone are not counted.
        assert played["sound_s"] == pytest.approx(0.96, abs=0.01)
