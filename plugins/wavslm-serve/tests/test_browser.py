"""The page in a real browser: a microphone goes in, and what the model says after it comes out.

Chromium takes a file for its microphone. What was heard and said is what the page saves.
"""

from __future__ import annotations

import io
import json
import math
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from browser import Page, browsing
from loopback import CHUNK, PATIENCE_S, RATE, Samples, command, floats, model_of, offline, same, until

import wavslm_serve
from wavslm_core import SpeechLM
from wavslm_core.data.audio import read_audio

pytestmark = pytest.mark.slow
PROMPTS = Path(wavslm_serve.__file__).parent / "page" / "prompts"
SPOKEN = "!document.getElementById('save').disabled && !wavslm.session.speaking"
TAP = """(() => {
  const { context, playback } = wavslm.sound;
  const processorOptions = { rate: RATE };
  const tap = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0, processorOptions });
  wavslm.played = [];
  tap.port.onmessage = ({ data }) => wavslm.played.push(...data);
  playback.connect(tap);
})()""".replace("RATE", str(RATE))
"""Keeps what is played, as the loudspeaker is given it."""
WATCH = """new MutationObserver(() => (wavslm.toldAt ||= Date.now()))
  .observe(document.getElementById("problem"), { attributes: true, childList: true })"""

STATUSES = """(() => {
  const status = document.getElementById("status");
  wavslm.said = [];
  new MutationObserver(() => wavslm.said.push(status.textContent)).observe(status, { childList: true });
})()"""


def prompt(name: str) -> Samples:
    said = read_audio(PROMPTS / f"{name}.flac", sample_rate_hz=RATE).numpy()
    return np.rint(said * 32768).astype(np.int16)


def saved(page: Page, seconds: float) -> tuple[Samples, Samples]:
    """Return what was heard and then said, as the page saves it."""
    both, rate = soundfile.read(io.BytesIO(page.download("#save")), dtype="int16")
    size = round(seconds * RATE)
    assert rate == RATE
    assert not both[:-size, 1].any()
    assert not both[-size:, 0].any()
    return both[:-size, 0], both[-size:, 1]


def likeness(part: Samples, whole: Samples) -> float:
    """Return the median correlation of quarters of a second with where they are in another sound.

    Between two rates a sound moves by parts of a sample, so places are tried in eighths of one.
    """
    size = RATE // 4
    room = 1 << (len(whole) + size).bit_length()
    sound = floats(whole).numpy().astype(np.float64)
    spectrum = np.fft.rfft(sound, room)
    energy = np.convolve(sound**2, np.ones(size), "valid").clip(1e-6)
    found = []
    for start in range(0, len(part) - size + 1, size):
        piece = floats(part[start : start + size]).numpy().astype(np.float64)
        if np.abs(piece).max() > 0.02:
            products = np.fft.irfft(spectrum * np.conj(np.fft.rfft(piece, room)), 8 * room) * 8
            best = products[: 8 * len(energy)].reshape(-1, 8).max(1) / np.sqrt(energy * (piece @ piece))
            found.append(float(best.max()))
    return float(np.median(found))


@pytest.fixture(scope="module")
def model() -> SpeechLM:
    return model_of(delay_samples=700)


@pytest.fixture(scope="module")
def address(model: SpeechLM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("serve") / "model"
    with command(folder, model, "--name", "talk.example") as (_, address):
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("browser")
    soundfile.write(folder / "microphone.wav", prompt("question"), RATE)
    with browsing(
        folder / "profile",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={folder / 'microphone.wav'}%noloop",
        "--host-resolver-rules=MAP talk.example 127.0.0.1",
    ) as page:
        yield page


@pytest.fixture
def page(browser: Page, address: str) -> Iterator[Page]:
    browser.open(address)
    assert browser.text("problem") == ""
    yield browser
    browser.open("about:blank")
    # A slow machine has room for one.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until(lambda: json.load(opener.open(f"{address}/health", timeout=PATIENCE_S))["sessions"] == 0)
    assert not browser.errors


def test_what_is_said_into_the_microphone_is_continued_and_played(page: Page, model: SpeechLM) -> None:
    page.choose("#seconds", "1.5")
    page.choose("#seed", "3")
    page.choose("#sampler", "top_p")
    page.choose("#p", "0.6")
    page.press("#talk")
    page.until("window.wavslm.sound?.listening")
    page.ask(TAP)
    page.until(f"wavslm.session.turns.reduce((sum, turn) => sum + turn.samples.length, 0) > {2 * RATE}")
    assert page.text("status") == "It listens. Let go to hear it."
    page.release("#talk")
    page.until(SPOKEN)
    page.until(f"wavslm.played.filter((value) => value).length > {1.4 * RATE}")
    heard, said = saved(page, 1.5)
    assert len(heard) > 2 * RATE
    assert (bytes(page.sent), bytes(page.received)) == (heard.tobytes(), said.tobytes())
    # The microphone may lose what a busy machine does not fetch in time, but not the most.
    assert likeness(heard, prompt("question")) > 0.9
    sampler = {"name": "top_p", "p": 0.6, "temperature": 1.0}
    assert same(said, offline(model, heard, 1.5, seed=3, sampler=sampler))
    played = np.asarray(page.ask("wavslm.played")) * 32768
    assert likeness(said, played.clip(-32768, 32767).astype(np.int16)) > 0.9
    (latency,) = page.ask("wavslm.latencies")
    assert page.ask("document.getElementById('stop').disabled")
    # As JavaScript rounds, whose clock often tells half a millisecond.
    assert page.text("latency-50") == page.text("latency-99") == f"{math.floor(latency + 0.5)} ms"
    assert re.fullmatch(r"\d+", page.text("underruns"))


def test_turns_follow_each_other_and_a_new_conversation_begins_anew(page: Page, model: SpeechLM) -> None:
    page.choose("#seconds", "0.5")
    page.click("#prompts button")
    page.until(SPOKEN)
    page.key("keyDown")
    page.until("wavslm.session.turns.filter(({ who }) => who === 'you').length > 20")
    page.key("keyUp")
    page.until(f"wavslm.session.turns.at(-1).who === 'model' && {SPOKEN}")
    both, _ = soundfile.read(io.BytesIO(page.download("#save")), dtype="int16")
    begin, half = len(prompt("question")), RATE // 2
    turns = both[:begin, 0], both[begin + half : -half, 0]
    answers = both[begin : begin + half, 1], both[-half:, 1]
    assert len(turns[1]) > 20 * 300
    session = model.session()
    row = session.join(seed=0)
    for heard, said in zip(turns, answers, strict=True):
        session.hear(floats(heard[: len(heard) // CHUNK * CHUNK])[None], [row])
        expected: list[float] = []
        while len(expected) < half:
            expected += session.speak([row])[0].tolist()
        assert same(said, np.rint(np.asarray(expected[:half]) * 32768).clip(-32768, 32767).astype(np.int16))
    page.click("#reset")
    assert page.ask("document.getElementById('save').disabled && wavslm.session === null")


def test_a_recording_is_taken_instead_of_a_microphone(page: Page, model: SpeechLM, tmp_path: Path) -> None:
    page.choose("#seconds", "1")
    soundfile.write(tmp_path / "counting.wav", prompt("numbers"), RATE)
    page.upload(".file", tmp_path / "counting.wav")
    page.until(SPOKEN)
    heard, said = saved(page, 1.0)
    assert same(heard, prompt("numbers"))
    assert same(said, offline(model, heard, 1.0))
    assert not page.ask("wavslm.sound.listening")
    (tmp_path / "text.wav").write_text("no sound")
    page.upload(".file", tmp_path / "text.wav")
    page.until("!document.getElementById('problem').hidden")
    assert page.text("problem") == "That file is no audio that this browser reads."


def test_hands_free_it_speaks_when_the_speaker_pauses(page: Page, model: SpeechLM) -> None:
    page.choose("#seconds", "1")
    page.ask(STATUSES)
    page.click("#hands-free")
    page.until(SPOKEN)
    # The microphone goes on: it may listen again before anybody asks what it said.
    page.until("wavslm.said.lastIndexOf('It is your turn.') > wavslm.said.indexOf('It listens.')")
    assert page.ask("wavslm.said.indexOf('It listens.')") > 0
    assert page.ask("document.getElementById('talk').disabled")


def test_a_refused_microphone_is_said_and_all_else_works(address: str, tmp_path: Path) -> None:
    with browsing(tmp_path / "profile", "--deny-permission-prompts") as page:
        page.open(address)
        page.press("#talk")
        page.until("!document.getElementById('problem').hidden")
        page.release("#talk")
        assert page.text("problem").startswith("The microphone was refused. Allow it for this page")
        page.choose("#seconds", "0.5")
        page.click("#prompts button")
        page.until(SPOKEN)
        assert page.text("problem") == ""


def test_an_address_that_is_not_secure_is_said(browser: Page, address: str) -> None:
    browser.open(address.replace("localhost", "talk.example"))
    assert "not a secure context" in browser.text("problem")
    assert browser.ask("document.getElementById('talk').disabled")


def test_a_server_that_is_killed_is_noticed_within_a_second(
    browser: Page, model: SpeechLM, tmp_path: Path
) -> None:
    with command(tmp_path / "model", model) as (process, address):
        browser.open(address)
        browser.choose("#seconds", "60")
        browser.click("#prompts button")
        browser.until("window.wavslm.latencies.length")
        assert browser.ask("wavslm.session.speaking")
        browser.ask(WATCH)
        killed = time.time()
        process.kill()
        browser.until("wavslm.toldAt")
        assert 0 <= browser.ask("wavslm.toldAt") / 1000 - killed < 1
    assert browser.text("problem").startswith("The server is gone")
    browser.press("#talk")
    browser.until("!document.querySelector('.listening')")
    assert browser.text("problem").startswith("The server is gone")
    browser.release("#talk")
    assert not browser.errors
