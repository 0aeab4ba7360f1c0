"""Where numbers, pictures and audio go: `metrics.jsonl` for programs, TensorBoard for people.

Both are cut back when a stage resumes, so that no step stands in them twice. The file is the record of a run:
a stage ends when it cannot be written. What is only shown never ends one.
"""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from wavslm_core.errors import DataError, WavslmError, summary
from wavslm_core.machine.files import open_in_place, refusal
from wavslm_core.machine.processes import Interrupted
from wavslm_core.run.metrics_file import METRICS_FILE, cut_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

EVENT_FILES = "events.out.tfevents.*"
LONGEST_WAIT_S = 5.0
_ABOUT_THE_LINE = ("stage", "step", "time", "split")


class Tracker:
    """Writes what a stage has to tell. Steps count optimizer steps that are done.

    `start_step`: what was written after that step by an earlier, killed process is dropped. Unless that step
    is `evaluated`, so is what was written at it by validation and pictures, which come again.
    Without `writes`, in the processes beside the one that does, nothing comes of what it is told.
    Raises (everywhere): WavslmError when `metrics.jsonl` cannot be written. What TensorBoard does not take is
    warned about, once for each thing.
    """

    def __init__(
        self,
        run_dir: Path,
        stage: str,
        *,
        start_step: int = 0,
        evaluated: bool = True,
        writes: bool = True,
    ) -> None:
        self.stage = stage
        self.writes = writes
        self.metrics_path = run_dir / METRICS_FILE
        self._warned: set[str] = set()
        self._writer: Any = None
        if writes:
            self._open(run_dir, start_step=start_step, evaluated=evaluated)

    def _open(self, run_dir: Path, *, start_step: int, evaluated: bool) -> None:
        _leave_errors_of_the_writer_to_us()
        with _writing(self.metrics_path.parent):
            run_dir.mkdir(parents=True, exist_ok=True)
            kept = cut_metrics(self.metrics_path, stage=self.stage, step=start_step, evaluated=evaluated)
            descriptor = open_in_place(self.metrics_path, os.O_WRONLY | os.O_APPEND)
            self._metrics = os.fdopen(descriptor, "a", encoding="utf-8")
        with self.showing("anything in TensorBoard"):
            from torch.utils.tensorboard import SummaryWriter

            folder = run_dir / "tensorboard" / self.stage
            _wait_for_a_later_name(folder)
            # A name that nobody could foresee and put something else in the place of.
            suffix = f".{secrets.token_hex(4)}"
            self._writer = SummaryWriter(
                str(folder), purge_step=start_step + evaluated, filename_suffix=suffix
            )
        if not evaluated:
            # TensorBoard purges whole steps: what was right of this one is written again.
            for line in kept:
                self._write_events(line)

    @contextmanager
    def showing(self, what: str) -> Iterator[None]:
        """Let nothing that goes wrong in showing `what` end the stage; say once what is not shown and why."""
        try:
            yield
        except Interrupted:
            raise
        except Exception as error:
            if what not in self._warned:
                self._warned.add(what)
                logger.warning("%s does not show %s: %s", self.stage, what, summary(error))

    def scalars(self, split: str, step: int, values: Mapping[str, float | Tensor]) -> None:
        """Write one line of `metrics.jsonl` and one TensorBoard point per value.

        Values that are not finite become null in the file: JSON has no word for them.
        """
        if not self.writes:
            return
        numbers = {name: float(value) for name, value in values.items()}
        line: dict[str, Any] = {
            "stage": self.stage,
            "step": step,
            "time": round(time.time(), 3),
            "split": split,
        }
        line |= {name: number if math.isfinite(number) else None for name, number in numbers.items()}
        with _writing(self.metrics_path.parent):
            self._metrics.write(json.dumps(line) + "\n")
            self._metrics.flush()
        self._write_events(line)

    def _write_events(self, line: Mapping[str, Any]) -> None:
        """Write a line of `metrics.jsonl` to TensorBoard."""
        with self.showing("numbers in TensorBoard"):
            for name, value in line.items():
                if self._writer is not None and name not in _ABOUT_THE_LINE:
                    number = math.nan if value is None else value
                    self._writer.add_scalar(f"{line['split']}/{name}", number, line["step"], line["time"])

    def audio(self, tag: str, waveform_S: Tensor, sample_rate_hz: int, step: int) -> None:
        """Write a waveform (S,) in [-1, 1]."""
        if not self.writes:
            return
        with self.showing(f"the audio '{tag}'"):
            waveform_S = waveform_S.detach().float().cpu().clamp(-1, 1)
            # TensorBoard takes a single sample for a number.
            waveform_S = torch.nn.functional.pad(waveform_S, (0, max(0, 2 - waveform_S.numel())))
            if self._writer is not None:
                self._writer.add_audio(tag, waveform_S[None], step, sample_rate=sample_rate_hz)

    def figure(self, tag: str, draw: Callable[[], Figure], step: int) -> None:
        """Write the matplotlib figure that `draw` returns, made without pyplot and its list of figures."""
        if not self.writes:
            return
        with self.showing(f"the picture '{tag}'"):
            from matplotlib.backends.backend_agg import FigureCanvasAgg

            canvas = FigureCanvasAgg(draw())
            canvas.draw()
            pixels = np.asarray(canvas.buffer_rgba())[..., :3]
            if self._writer is not None:
                self._writer.add_image(tag, torch.from_numpy(pixels.copy()), step, dataformats="HWC")

    def features(self, tag: str, features: Mapping[str, Tensor], step: int) -> None:
        """Write a picture of features, title → (T,D), one below the other."""
        from wavslm_core.plotting import feature_figure

        self.figure(tag, lambda: feature_figure(features), step)

    def flush(self) -> None:
        """Hand everything to the system, so that a kill from now on loses nothing."""
        if not self.writes:
            return
        with self.showing("numbers in TensorBoard"):
            if self._writer is not None:
                self._writer.flush()

    def close(self) -> None:
        if not self.writes:
            return
        with _writing(self.metrics_path.parent):
            self._metrics.close()
        with self.showing("numbers in TensorBoard"):
            if self._writer is not None:
                self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except WavslmError:
            # What made the block fail says more than what followed from it.
            if error is None:
                raise


def _wait_for_a_later_name(folder: Path) -> None:
    """Wait until a new event file sorts behind those of earlier processes.

    Readers take files in the order of their names, which begin with the second they were opened in; what
    comes in the wrong order is not purged. Clocks that are further apart than a few seconds stay so.
    """
    opened = [int(name) for path in folder.glob(EVENT_FILES) if (name := path.name.split(".")[3]).isdigit()]
    deadline = time.monotonic() + LONGEST_WAIT_S
    while opened and int(time.time()) <= max(opened) and time.monotonic() < deadline:
        time.sleep(0.02)


def _leave_errors_of_the_writer_to_us() -> None:
    """Keep the thread that writes TensorBoard events from printing its traceback when the disk is full.

    The same error comes up again in the next call that writes, where `Tracker.showing` makes one line of it.
    """
    previous = threading.excepthook
    if getattr(previous, "spares_event_writers", False):
        return

    def hook(failed: threading.ExceptHookArgs) -> None:
        is_event_writer = type(failed.thread).__module__.startswith("tensorboard.")
        if not (is_event_writer and issubclass(failed.exc_type, OSError)):
            previous(failed)

    hook.spares_event_writers = True  # type: ignore[attr-defined]
    threading.excepthook = hook


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn the system's errors while writing logs into one clear line."""
    try:
        yield
    except (OSError, DataError) as error:
        # Where a whole file is replaced, the system's error comes wrapped.
        cause = error.__cause__ if isinstance(error, DataError) else error
        if not isinstance(cause, OSError):
            raise
        raise WavslmError(
            f"the metrics of this run cannot be written to {folder}: "
            f"{refusal(Path(cause.filename or folder), cause)}; checkpoints are kept, and the same "
            "command goes on from there"
        ) from error
