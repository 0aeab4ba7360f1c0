"""Corpora made up for the tests, and a web server that hands them out."""

import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 16000


class Host:
    """A web server of a folder that understands `Range` and can be told to misbehave."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, str | None]] = []
        """(path, Range header) of each request."""
        self.break_after: int | None = None
        """Close the connection after that many bytes of each answer."""
        self.answers: int | None = None
        """After that many answers there are errors only."""
        self.ranges = True
        self.status: int | None = None
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.asked.append((request.path, wanted))
        file = self.folder / request.path.lstrip("/")
        gone = self.answers is not None and len(self.asked) > self.answers
        if gone or self.status is not None or not file.is_file():
            request.send_error(503 if gone else self.status or 404)
            return
        data = file.read_bytes()
        start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted and self.ranges else 0
        if wanted and self.ranges and start >= len(data):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(data)}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        request.send_response(206 if wanted and self.ranges else 200)
        if wanted and self.ranges:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.send_header("Content-Length", str(len(data) - start))
        request.end_headers()
        sent = data[start:] if self.break_after is None else data[start : start + self.break_after]
        request.wfile.write(sent)
        request.wfile.flush()
        if self.break_after is not None:
            request.close_connection = True

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def noise(seconds: float, *, seed: int = 0, rate_hz: int = RATE_HZ) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (0.1 * random.standard_normal(round(seconds * rate_hz))).astype(np.float32)


def encoded(waveform: np.ndarray, *, kind: str = "flac", rate_hz: int = RATE_HZ) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, rate_hz, format=kind)
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes], *, mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def libri_members(top: str, subset: str, *, speakers: int = 2, suffix: str = "flac") -> dict[str, bytes]:
    """Return what an archive of that subset holds: two chapters of two utterances for each speaker."""
    members: dict[str, bytes] = {f"{top}README.TXT": b"read me"} if top else {}
    for speaker in range(100, 100 + speakers):
        for chapter in (1, 2):
            folder = f"{top}{subset}/{speaker}/{chapter}"
            lines = []
            for number in range(2):
                stem = f"{speaker}-{chapter}-{number:04d}"
                members[f"{folder}/{stem}.{suffix}"] = encoded(
                    noise(0.5 + number, seed=speaker + 10 * chapter + number), kind=suffix
                )
                lines.append(f"{stem} SPEAKER {speaker} SAYS {number}")
            members[f"{folder}/{speaker}-{chapter}.trans.txt"] = "\n".join(lines).encode()
    return members
