"""A real browser without a window: Chromium, driven over its DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from loopback import PATIENCE_S, until
from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless",
    # Containers and the users of continuous integration may make no sandbox; it sees our own page alone.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--no-proxy-server",
    "--remote-debugging-port=0",
    "--window-size=1000,1120",
    "--use-fake-device-for-media-stream",
)


class Page:
    """The one page of a browser, and how a person uses it."""

    def __init__(self, connection: ClientConnection, folder: Path) -> None:
        self._connection = connection
        self._numbers = count(1)
        self.downloads = folder / "downloads"
        self.errors: list[str] = []
        """What its scripts threw and nobody caught."""
        self.sent, self.received = bytearray(), bytearray()
        """16-bit samples that went over its WebSockets, as the browser's network saw them."""
        self._chooser: int | None = None
        for domain in ("Page", "Runtime", "DOM", "Network"):
            self.send(f"{domain}.enable")
        self.send("Page.setInterceptFileChooserDialog", enabled=True)
        self.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))

    def send(self, method: str, **options: Any) -> Any:
        """Return what the browser answers to a command of the protocol."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": options}))
        while True:
            message = json.loads(self._connection.recv(timeout=PATIENCE_S))
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(message["params"]["exceptionDetails"]))
            for name, samples in (("Sent", self.sent), ("Received", self.received)):
                if message.get("method") == f"Network.webSocketFrame{name}":
                    frame = message["params"]["response"]
                    if frame["opcode"] == 2:
                        samples += base64.b64decode(frame["payloadData"])[1:]
            if message.get("method") == "Page.fileChooserOpened":
                self._chooser = message["params"]["backendNodeId"]
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                return message["result"]

    def open(self, address: str) -> None:
        self.sent.clear()
        self.received.clear()
        self.send("Page.navigate", url=address)
        self.until("document.readyState === 'complete'")

    def ask(self, script: str) -> Any:
        """Return the value of an expression, waited for where it is a promise."""
        answer = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, (script, answer["exceptionDetails"])
        return answer["result"].get("value")

    def until(self, script: str) -> float:
        """Wait until an expression is true; return the seconds that it took."""
        began = time.monotonic()
        until(lambda: bool(self.ask(script)))
        return time.monotonic() - began

    def text(self, name: str) -> str:
        """Return what an element says, nothing when it is hidden."""
        shown: str = self.ask(f"document.getElementById('{name}').innerText")
        return shown

    def mouse(self, kind: str, selector: str) -> None:
        """Press or release the mouse over an element, which is brought into view."""
        x, y = self.ask(
            f"(() => {{ const it = document.querySelector({json.dumps(selector)});"
            " it.scrollIntoViewIfNeeded();"
            " const { left, top, width, height } = it.getBoundingClientRect();"
            " return [left + width / 2, top + height / 2]; })()"
        )
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, selector: str) -> None:
        self.mouse("mousePressed", selector)

    def release(self, selector: str) -> None:
        self.mouse("mouseReleased", selector)

    def click(self, selector: str) -> None:
        self.press(selector)
        self.release(selector)

    def key(self, kind: str) -> None:
        """Let the space bar go `keyDown` or `keyUp`."""
        self.send("Input.dispatchKeyEvent", type=kind, key=" ", code="Space", windowsVirtualKeyCode=32)

    def choose(self, selector: str, value: str) -> None:
        """Give an input another value, as if it was typed."""
        self.ask(
            f"(() => {{ const it = document.querySelector({json.dumps(selector)});"
            f" it.value = {json.dumps(value)};"
            " it.dispatchEvent(new Event('change', { bubbles: true })); })()"
        )

    def upload(self, selector: str, file: Path) -> None:
        """Click on what asks for a file, and choose one."""
        self._chooser = None
        self.click(selector)
        until(lambda: bool(self.ask("true") and self._chooser))
        self.send("DOM.setFileInputFiles", backendNodeId=self._chooser, files=[str(file)])

    def download(self, selector: str) -> bytes:
        """Click on what saves a file, and return what was saved."""
        self.click(selector)
        until(lambda: bool([*self.downloads.glob("*.wav")]))
        (file,) = self.downloads.glob("*.wav")
        content = file.read_bytes()
        file.unlink()
        return content

    def picture(self) -> bytes:
        """Return all of the page as a PNG."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])


@contextmanager
def browsing(folder: Path, *options: str) -> Iterator[Page]:
    """Start a browser with a profile of its own; skip the test where there is none."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"there is no browser to run the page in ({', '.join(NAMES)})")
    folder.mkdir()
    command = [program, *OPTIONS, *options, f"--user-data-dir={folder}", "about:blank"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        port_file = folder / "DevToolsActivePort"
        until(lambda: process.poll() is not None or (port_file.exists() and "\n" in port_file.read_text()))
        assert process.poll() is None, (folder / "log").read_text()
        port = port_file.read_text().split()[0]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE_S) as answer:
            address = next(page for page in json.load(answer) if page["type"] == "page")[
                "webSocketDebuggerUrl"
            ]
        with connect(address, max_size=None, proxy=None, open_timeout=PATIENCE_S) as connection:
            page = Page(connection, folder)
            yield page
            assert not page.errors
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
