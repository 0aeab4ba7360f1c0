"""A sweep for TensorBoard's HParams tab: one session for each trial, with its settings and what ranks it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wavslm_core.machine.files import replacing_folder
from wavslm_core.sweep.comparison import Comparison
from wavslm_core.sweep.trial_state import Row


def write_hparams(folder: Path, comparison: Comparison) -> None:
    """Replace a folder by event files, one subfolder for each trial that has a number. Raises: DataError."""
    metric = comparison.metric
    known = [result for result in comparison.results if result.value is not None]
    if metric is None or not known:
        return
    with replacing_folder(folder) as beside:
        for result in known:
            _write_session(beside / result.folder.name, result, metric.path)


def _write_session(folder: Path, result: Row, metric: str) -> None:
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    writer: Any = SummaryWriter(str(folder))
    try:
        for summary in hparams(_values(result), {metric: result.value}):
            writer.file_writer.add_summary(summary)
        writer.add_scalar(metric, result.value, 0)
    finally:
        writer.close()


def _values(result: Row) -> Mapping[str, Any]:
    values = {
        key: value if isinstance(value, (bool, int, float, str)) else str(value)
        for key, value in result.settings.items()
    }
    if result.seed is not None:
        values["seed"] = result.seed
    return {**values, "state": result.state}
