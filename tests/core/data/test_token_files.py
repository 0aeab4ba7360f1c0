"""Token files: what `write` wrote is read back, anything else is one clear error, however small a bomb is."""

import io
import os
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wavslm_core.data import token_files
from wavslm_core.data.token_files import TokenFile
from wavslm_core.errors import DataError

GOOD: dict[str, Any] = {
    "tokens": np.array([3, 0, 31], np.uint16),
    "samples": 960,
    "sample_rate_hz": 16_000,
    "vocab_size": 32,
    "codec": "small",
}
WRONG: dict[str, dict[str, Any]] = {
    "an infinite length": {"samples": np.inf},
    "a rate that is no number": {"sample_rate_hz": np.nan},
    "an infinite vocabulary": {"vocab_size": -np.inf},
    "tokens of floats": {"tokens": np.array([1.0, np.inf])},
    "complex tokens": {"tokens": np.array([1j])},
    "tokens in two dimensions": {"tokens": np.zeros((2, 2), np.uint16)},
    "no tokens": {"tokens": np.zeros(0, np.uint16)},
    "tokens beyond the codes": {"tokens": np.array([32], np.uint16)},
    "several lengths": {"samples": np.array([960, 960])},
    "no length": {"samples": 0},
    "a codec that is a number": {"codec": 3},
}


def test_a_token_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    held = TokenFile(np.array([3, 0, 31]), 960, 16_000, 32, "small")
    held.write(path)
    found = TokenFile.read(path)
    assert found.tokens_T.tolist() == [3, 0, 31]
    assert (found.samples, found.sample_rate_hz, found.vocab_size, found.codec) == (960, 16_000, 32, "small")


@pytest.mark.parametrize("what", WRONG)
def test_arrays_that_no_encoder_writes_are_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **(GOOD | WRONG[what]))
    with pytest.raises(DataError, match=r"a\.npz is no token file, or damaged \("):
        TokenFile.read(path)


def entries(path: Path, **contents: bytes) -> Path:
    """Write an archive of the good arrays with other bytes for some of them."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in GOOD.items():
            stream = io.BytesIO()
            np.save(stream, value)
            archive.writestr(f"{name}.npy", contents.get(name, stream.getvalue()))
    return path


def header(shape: str, descr: str = "<u2") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}".encode()
    text = text.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "tokens",
    [
        b"\0" * (1 << 23),
        header("(1000000000000,)"),
        header("(-1,)") + b"\0\0",
        header("(3,)", "|O") + b"\0" * 24,
        header("[" * 3000),
        header("(3,)") + b"\0" * 5,
        b"\x93NUMPY\x02\x00",
        b"",
    ],
    ids=["a bomb", "a huge shape", "a negative shape", "objects", "brackets", "cut off", "version", "empty"],
)
def test_a_few_bytes_never_become_much_memory(
    tmp_path: Path, tokens: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_files, "MOST_BYTES", 1 << 20)
    path = entries(tmp_path / "a.npz", tokens=tokens)
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    with pytest.raises(DataError, match=r"a\.npz is no token file, or damaged \("):
        TokenFile.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_a_pipe_is_no_token_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(DataError, match="it is no regular file"):
        TokenFile.read(tmp_path / "a.npz")


def test_a_byte_that_changed_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    TokenFile(np.arange(200), 64_000, 16_000, 256, "one").write(path)
    content = path.read_bytes()
    refused = 0
    for place in range(0, len(content), 5):
        path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        try:
            held = TokenFile.read(path)
        except DataError:
            refused += 1
        else:
            assert np.array_equal(held.tokens_T, np.arange(200)), f"byte {place} changed tokens unnoticed"
    assert refused > len(content) / 5 / 2
