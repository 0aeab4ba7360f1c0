"""Runs exported graphs with numpy and onnxruntime: encode, decode, and speak on, offline or chunk by chunk.

Shapes: S samples of mono audio in [-1, 1], T tokens, C tokens of a chunk. One stream at a time.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
MANIFEST = "model.json"


class RunnerError(ValueError):
    """The folder is no exported model, or what was given is no such audio or tokens."""


class Step:
    """A graph and the state that it is in."""

    def __init__(self, folder: Path, entry: dict[str, Any], options: Any) -> None:
        self._session = onnxruntime.InferenceSession(
            folder / entry["file"], options, providers=["CPUExecutionProvider"]
        )
        with np.load(folder / entry["start"]) as held:
            self._start = {name: held[name] for name in entry["state"]}
        self._next = {name: f"next_{name}" for name in entry["state"] if f"next_{name}" in entry["outputs"]}
        self._outputs = [name for name in entry["outputs"] if name not in self._next.values()]
        self._wanted = [*self._outputs, *self._next.values()]
        self.state = dict(self._start)

    def reset(self) -> None:
        """Go back to the state before the first step."""
        self.state = dict(self._start)

    def __call__(self, **inputs: Any) -> list[Any]:
        """Make a step; returns what comes out beside the state."""
        results = self._session.run(self._wanted, {**inputs, **self.state})
        self.state = dict(zip(self._next, results[len(self._outputs) :], strict=True)) or self.state
        return list(results[: len(self._outputs)])


class Runner:
    """A codec, and the language model over its tokens if there is one.

    `threads`: of each graph; 0: as many as onnxruntime finds right. Raises: RunnerError for a folder that
    is no whole export.
    """

    def __init__(self, folder: str | Path, *, threads: int = 0, check: bool = True) -> None:
        self._folder = Path(folder)
        try:
            self.facts: dict[str, Any] = json.loads((self._folder / MANIFEST).read_text(encoding="utf-8"))
            graphs = self.facts["graphs"]
        except (OSError, ValueError, KeyError) as error:
            raise RunnerError(
                f"{folder} is no exported model ({error}). Make one with `wavslm export MODEL --to onnx`"
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        if check:
            self._check(graphs)
        self._steps = {name: Step(self._folder, entry, options) for name, entry in graphs.items()}

    def encode(self, waveform_S: npt.ArrayLike) -> Ints:
        """Return the tokens (T,) of a waveform at `facts["sample_rate_in_hz"]`, cut to whole chunks."""
        chunk = self.facts["chunk_samples_in"]
        pieces = self._chunks(self._audio(waveform_S), chunk, "samples")
        self._steps["encode"].reset()
        tokens = [self._steps["encode"](waveform=piece[None])[0][0] for piece in pieces]
        return np.concatenate(tokens)

    def decode(self, tokens_T: npt.ArrayLike) -> Floats:
        """Return the audio (S,) of tokens, whole chunks of them."""
        pieces = self._chunks(self._tokens(tokens_T), self.facts["chunk_tokens"], "tokens")
        self._steps["decode"].reset()
        audio = [self._steps["decode"](tokens=piece[None])[0][0] for piece in pieces]
        return np.concatenate([*audio, *self._held_back("decode")])[self.facts["delay_samples"] :]

    def continue_speech(
        self,
        waveform_S: npt.ArrayLike,
        *,
        seconds: float = 3.0,
        uniform: Callable[[int], npt.ArrayLike] | None = None,
        seed: int = 0,
    ) -> Floats:
        """Return what comes after a waveform, (S,) at `facts["sample_rate_out_hz"]`.

        `uniform(n)` gives the next n random numbers in [0, 1); by default numpy's, of `seed`.
        """
        talk = self.conversation(uniform=uniform, seed=seed)
        talk.read(self.encode(waveform_S))
        size = round(seconds * self.facts["sample_rate_out_hz"])
        chunks = -(-size // (self.facts["speech_lm"]["chunk_samples"]))
        return np.concatenate([*(talk.speak() for _ in range(chunks)), talk.held_back()])[:size]

    def conversation(
        self, *, uniform: Callable[[int], npt.ArrayLike] | None = None, seed: int = 0
    ) -> Conversation:
        """Begin to hear and speak; what was begun before is over. Raises: RunnerError for a codec alone."""
        if "speech_lm" not in self.facts:
            raise RunnerError(f"{self._folder} holds a codec alone. Export a language model to let it speak")
        for step in self._steps.values():
            step.reset()
        generator = np.random.default_rng(seed)
        return Conversation(self, uniform or generator.random)

    def _held_back(self, name: str) -> list[Floats]:
        if not self.facts["delay_samples"]:
            return []
        flush, state = self._steps["flush"], self._steps[name].state
        flush.state = {key: state[key] for key in flush.state}
        return [flush()[0][0]]

    def _check(self, graphs: dict[str, Any]) -> None:
        for entry in graphs.values():
            for file, digest in ((entry["file"], entry["sha256"]), (entry["start"], entry["start_sha256"])):
                path = self._folder / file
                found = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "missing"
                if found != digest:
                    raise RunnerError(f"{path} is {found}, not {digest}. Export the model again")

    def _audio(self, waveform_S: npt.ArrayLike) -> Floats:
        waveform = np.asarray(waveform_S, np.float32)
        if waveform.ndim != 1 or not np.isfinite(waveform).all() or np.abs(waveform).max(initial=0) > 1:
            raise RunnerError(f"give mono samples (S,) in [-1, 1], not an array {waveform.shape}")
        return waveform

    def _tokens(self, tokens_T: npt.ArrayLike) -> Ints:
        tokens, size = np.asarray(tokens_T), self.facts["vocab_size"]
        whole = np.issubdtype(tokens.dtype, np.integer) and tokens.ndim == 1
        if not whole or tokens.min(initial=0) < 0 or tokens.max(initial=0) >= size:
            raise RunnerError(f"give tokens (T,) from 0 to {size - 1}, not an array {tokens.shape}")
        return tokens.astype(np.int64)

    def _chunks(self, values: Any, chunk: int, unit: str) -> list[Any]:
        count = len(values) // chunk
        if count == 0:
            raise RunnerError(f"a chunk is {chunk} {unit}, got {len(values)}: give at least one")
        return np.split(values[: count * chunk], count)


class Conversation:
    """Hears and speaks in turn, chunk by chunk. Made by `Runner.conversation`.

    Every step draws what it would say next. Once it does, those random numbers are used up; when it hears
    something instead, the next draw is made with them.
    """

    def __init__(self, runner: Runner, uniform: Callable[[int], npt.ArrayLike]) -> None:
        self._runner, self._uniform = runner, uniform
        self._facts = runner.facts["speech_lm"]
        self._uniforms_1K: Floats | None = None
        self._drawn = 0
        self._ahead_C: Ints | None = None
        """What it would say next; none: it has heard nothing."""
        self._coming: deque[tuple[int, bool]] = deque([(runner.facts["delay_samples"], False)])
        """What comes out of the decoder next: how many samples, and whether it said them."""

    def hear(self, waveform_S: npt.ArrayLike) -> Floats:
        """Hear the next whole chunks of samples; returns the samples (S,) it had said that were held back."""
        runner = self._runner
        step, chunk = runner._steps["encode"], runner.facts["chunk_samples_in"]
        pieces = runner._chunks(runner._audio(waveform_S), chunk, "samples")
        return self.read(np.concatenate([step(waveform=piece[None])[0][0] for piece in pieces]))

    def read(self, tokens_T: npt.ArrayLike) -> Floats:
        """Hear speech that is encoded already, whole chunks; returns what `hear` does."""
        runner = self._runner
        pieces = runner._chunks(runner._tokens(tokens_T), self._facts["chunk_tokens"], "tokens")
        return np.concatenate([self._step(chunk_C, said=False) for chunk_C in pieces])

    def speak(self) -> Floats:
        """Say what comes next: a chunk of audio (S,), the first after hearing shorter by what lags."""
        if self._ahead_C is None:
            raise RunnerError("nothing was heard yet: a model speaks on after what it heard")
        self._uniforms_1K = None
        self._drawn += len(self._ahead_C)
        return self._step(self._ahead_C, said=True)

    def held_back(self) -> Floats:
        """Return the last samples (S,) that it said, at the end."""
        return self._said(np.concatenate([np.zeros(0, np.float32), *self._runner._held_back("speak")]))

    def _step(self, tokens_C: Ints, *, said: bool) -> Floats:
        if self._uniforms_1K is None:
            self._uniforms_1K = np.asarray(self._uniform(self._facts["uniforms"]), np.float32)[None]
        audio_1S, ahead_1C = self._runner._steps["speak"](
            tokens=tokens_C[None], uniforms=self._uniforms_1K, position=np.array(self._drawn, np.int64)
        )
        self._ahead_C = ahead_1C[0]
        self._coming.append((audio_1S.shape[1], said))
        return self._said(audio_1S[0])

    def _said(self, audio_S: Floats) -> Floats:
        """Return those samples out of the decoder that it said itself."""
        kept = []
        while len(audio_S):
            count, said = self._coming.popleft()
            if said:
                kept.append(audio_S[:count])
            if count > len(audio_S):
                self._coming.appendleft((count - len(audio_S), said))
            audio_S = audio_S[count:]
        return np.concatenate([np.zeros(0, np.float32), *kept])
