"""Spoken and Topic StoryCloze (Hassid et al. 2023): a folder of stories with their right and a wrong ending.

Files are `<n>_<story>_correct.wav` and `<n + 1>_<story>_incorrect.wav`, or `<n>_correct.wav` and
`<n>_incorrect.wav`: paired by what stands before the label, never by their order.
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import ClassVar

from wavslm_core.plugin import DataError, Finding, Pair
from wavslm_suites.config import StoryClozeConfig
from wavslm_suites.copies import CopiedSuite, SuiteCopy, audio_by_stem
from wavslm_suites.hub_columns import HubColumns

STORIES = 1871
_NAME = re.compile(r"(?:\d+_)?(?P<story>.+)_(?P<label>correct|incorrect)")


class StoryCloze(CopiedSuite[StoryClozeConfig]):
    """What both have in common."""

    def look(self) -> SuiteCopy:
        tables = HubColumns.find(self.root)
        copy = self._folder() if tables is None else tables.pairs()
        copy.published_pairs = STORIES
        return copy

    def _folder(self) -> SuiteCopy:
        copy = SuiteCopy()
        endings: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
        for stem, path in audio_by_stem(self.root, copy.findings).items():
            match = _NAME.fullmatch(stem)
            if match is None:
                what = f"{path} is neither <n>_<story>_correct nor <n>_<story>_incorrect"
                copy.findings.append(Finding("wrongly named", what))
            else:
                endings[match["story"]][match["label"]].append(path)
        if not endings:
            raise DataError(
                f"{self.root} holds no <n>_<story>_correct.wav; set `path` to the folder that holds the WAVs"
            )
        for story, found in endings.items():
            files = [found["correct"], found["incorrect"]]
            if [len(paths) for paths in files] == [1, 1]:
                names = [paths[0].stem for paths in files]
                copy.pairs.append(Pair(story, names[0], names[1], item=story))
                copy.sources.update((name, paths[0]) for name, paths in zip(names, files, strict=True))
                continue
            several = [path for paths in files for path in paths]
            twice = any(len(paths) > 1 for paths in files)
            what = ", ".join(map(str, several))
            copy.findings.append(Finding("duplicate" if twice else "unpaired", what))
        return copy


class SpokenStoryCloze(StoryCloze):
    """See `SpokenStoryClozeConfig`."""

    title: ClassVar[str] = "Spoken StoryCloze"


class TopicStoryCloze(StoryCloze):
    """See `TopicStoryClozeConfig`."""

    title: ClassVar[str] = "Topic StoryCloze"
