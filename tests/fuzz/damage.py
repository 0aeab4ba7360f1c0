"""Ways in which a file can be something else than what was written."""

import json
import os
from pathlib import Path
from random import Random

import yaml

from tests.fuzz.values import changed

Damage = str
DEEP = (b"[" * 100_000, b'{"a":' * 100_000, b"- " * 100_000, b"(" * 100_000)


def damage(path: Path, random: Random) -> str:
    """Damage a file; return in words how."""
    content = path.read_bytes()
    ways = [_cut, _flipped, _overwritten, _appended, _deep, _replaced]
    # Wrong shapes are what readers trip over most.
    if path.suffix in (".json", ".jsonl", ".yaml"):
        ways += [_reshaped] * 12
    way = random.choice(ways)
    path.unlink()
    said = way(path, content, random)
    return f"{path.name}: {said}"


def _cut(path: Path, content: bytes, random: Random) -> str:
    size = random.randrange(len(content) + 1)
    path.write_bytes(content[:size])
    return f"cut to {size} of {len(content)} bytes"


def _flipped(path: Path, content: bytes, random: Random) -> str:
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 3, 20))):
        if data:
            # Headers are where the meaning is.
            last = len(data) if random.random() < 0.5 else min(len(data), 300)
            data[random.randrange(last)] ^= 1 << random.randrange(8)
    path.write_bytes(data)
    return "some bits flipped"


def _overwritten(path: Path, content: bytes, random: Random) -> str:
    start = random.randrange(len(content) + 1)
    piece = random.choice((b"\0", b"\xff", b"9", b'"', b"\x80")) * random.choice((1, 8, 64, 1000))
    path.write_bytes(content[:start] + piece + content[start + len(piece) :])
    return f"{len(piece)} bytes {piece[:1]!r} from byte {start} on"


def _appended(path: Path, content: bytes, random: Random) -> str:
    path.write_bytes(content + random.choice((content, b"\0" * 5000, b"}", b"\n[1]\n")))
    return "something appended"


def _deep(path: Path, content: bytes, random: Random) -> str:
    path.write_bytes(random.choice(DEEP))
    return "100,000 brackets"


def _replaced(path: Path, content: bytes, random: Random) -> str:
    what = random.randrange(6)
    if what == 0:
        path.mkdir()
        return "a folder"
    if what == 1:
        os.mkfifo(path)
        return "a pipe"
    if what == 2:
        path.symlink_to("/dev/zero")
        return "an endless device"
    if what == 3:
        path.symlink_to(path.name)
        return "a link to itself"
    if what == 4:
        path.write_bytes(b"")
        return "empty"
    with path.open("wb") as file:
        file.truncate(1 << 42)
    return "4 TB of zeros"


def _reshaped(path: Path, content: bytes, random: Random) -> str:
    try:
        text = content.decode("utf-8")
        if path.suffix == ".yaml":
            new = yaml.safe_dump(changed(yaml.safe_load(text), random), sort_keys=False)
        elif path.suffix == ".jsonl":
            lines = text.splitlines()
            place = random.randrange(len(lines))
            lines[place] = json.dumps(changed(json.loads(lines[place]), random))
            new = "\n".join(lines) + "\n"
        else:
            new = json.dumps(changed(json.loads(text), random))
    except (ValueError, IndexError, yaml.YAMLError):
        return _cut(path, content, random)
    path.write_text(new, encoding="utf-8", errors="surrogatepass")
    return f"now {new[:2000]}" if len(new) < 2000 else "another shape"
