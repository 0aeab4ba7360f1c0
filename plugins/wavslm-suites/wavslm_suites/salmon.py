"""SALMon (Maimon et al. 2024): `<task>/sample_<number>_<0|1>.wav`, 0 being the positive; 200 pairs a task.

The hub's copy has a config a task with the columns `positive_audio` and `negative_audio`. One with
`prompt_audio` besides (arXiv 2601.06329) tells where each pair splits.
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import ClassVar

from wavslm_core.plugin import Average, DataError, Finding, Group, Pair
from wavslm_suites.config import SALMON_TASKS, SalmonConfig
from wavslm_suites.copies import CopiedSuite, SuiteCopy, audio_by_stem
from wavslm_suites.hub_columns import HubColumns, seconds_of

PAIRS_A_TASK = 200
_NAME = re.compile(r"sample_(\d+)_([01])")


class Salmon(CopiedSuite[SalmonConfig]):
    """See `SalmonConfig`."""

    title: ClassVar[str] = "SALMon"
    groups: ClassVar[tuple[Group, ...]] = (Group("task", "task", SALMON_TASKS),)
    averages: ClassVar[tuple[Average, ...]] = (Average("mean", "mean of tasks", over="task"),)

    def look(self) -> SuiteCopy:
        tables = HubColumns.find(self.root)
        copy = self._hub(tables) if tables else self._folders()
        copy.published_pairs = PAIRS_A_TASK * len(self.config.tasks)
        if len(self.config.tasks) < len(SALMON_TASKS):
            copy.remark = f"{len(self.config.tasks)} of {len(SALMON_TASKS)} tasks."
        return copy

    def _folders(self) -> SuiteCopy:
        copy = SuiteCopy()
        there = [task for task in self.config.tasks if (self.root / task).is_dir()]
        if not there:
            raise DataError(
                f"{self.root} holds none of the folders {', '.join(self.config.tasks)}; set `path` to the "
                "folder that holds them, or to a copy of the hub's dataset"
            )
        for task in self.config.tasks:
            if task in there:
                self._task(task, copy)
            else:
                copy.findings.append(Finding("missing", f"{self.root / task}"))
        return copy

    def _task(self, task: str, copy: SuiteCopy) -> None:
        folder = self.root / task
        sides: dict[int, dict[str, Path]] = defaultdict(dict)
        for stem, path in audio_by_stem(folder, copy.findings).items():
            match = _NAME.fullmatch(stem)
            if match is None:
                copy.findings.append(Finding("wrongly named", f"{path} is no sample_<number>_<0|1>"))
            elif match[2] in sides[int(match[1])]:
                copy.findings.append(Finding("duplicate", f"{path} has the number of another file"))
                sides[int(match[1])].clear()
            else:
                sides[int(match[1])][match[2]] = path
        for number in range(max(sides, default=-1) + 1):
            sample = sides.get(number, {})
            if not sample:
                copy.findings.append(Finding("missing", f"{folder}/sample_{number}_0 and _1"))
            elif len(sample) == 1:
                copy.findings.append(Finding("unpaired", f"{next(iter(sample.values()))}"))
            else:
                names = [f"{task}/{sample[side].stem}" for side in "01"]
                name = f"{task}/{number}"
                copy.pairs.append(Pair(name, names[0], names[1], item=name, groups={"task": task}))
                copy.sources.update(zip(names, (sample[side] for side in "01"), strict=True))

    def _hub(self, tables: HubColumns) -> SuiteCopy:
        copy = SuiteCopy(opened=tables.recording)
        prompts = tables.has("prompt_audio")
        for row in tables.rows("positive_audio", "negative_audio"):
            task = next((task for task in SALMON_TASKS if task in row), None)
            if task is None:
                copy.findings.append(Finding("wrongly named", f"{row} names no task"))
            elif task in self.config.tasks:
                split = seconds_of(tables.recording(f"{row}/prompt_audio")) if prompts else None
                copy.pairs.append(
                    Pair(
                        row,
                        f"{row}/positive_audio",
                        f"{row}/negative_audio",
                        item=row,
                        groups={"task": task},
                        split_s=None if split is None else (split, split),
                    )
                )
        return copy
