"""Options of the suites, where their data is, and what was published for them; free of torch."""

from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

from pydantic import Field

from wavslm_core.plugin import Published, SuiteConfig

WAVSLM = "WavSLM, arXiv 2603.05299"
RULES = {
    "WavSLM-4k": "first chunk unscored; sum or mean, ties: not stated",
    "LLaMA-Mimi 8B": "mean per token, ties 0; as quoted by WavSLM",
    "SpiRit-LM 7B": "not stated; as quoted by WavSLM",
}
"""How the models of the published table were scored, as far as that is known."""
SalmonTask = Literal[
    "sentiment_consistency", "speaker_consistency", "gender_consistency", "bg_domain_consistency",
    "bg_all_consistency", "rir_consistency", "sentiment_alignment", "bg_alignment",
]  # fmt: skip
SALMON_TASKS: tuple[SalmonTask, ...] = get_args(SalmonTask)


def published(number: str, percents: Mapping[str, float], *, also: str = "") -> tuple[Published, ...]:
    """Return what WavSLM's table says of one number: model → percent; `also` is added to the rules."""
    return tuple(
        Published(model, number, percent, f"{RULES[model]}{also}", WAVSLM)
        for model, percent in percents.items()
    )


def three(wavslm: float, llama_mimi: float, spirit_lm: float) -> dict[str, float]:
    return dict(zip(RULES, (wavslm, llama_mimi, spirit_lm), strict=True))


class SalmonConfig(SuiteConfig):
    """SALMon: do speaker, gender, sentiment, background and room stay as they were, and suit what is said?"""

    homepage: ClassVar[str] = "https://github.com/slp-rl/salmon (hub: slprl/SALMon)"
    licence: ClassVar[str] = "CC-BY-NC-4.0"
    size: ClassVar[str] = "8 tasks × 200 pairs = 3,200 files"
    published: ClassVar[tuple[Published, ...]] = (
        *published("task=sentiment_consistency", three(75.0, 76.5, 54.5)),
        *published("task=speaker_consistency", three(88.5, 86.5, 69.5)),
        *published("task=gender_consistency", three(90.5, 85.5, 67.0)),
        *published("task=sentiment_alignment", three(51.5, 46.5, 48.0)),
    )

    name: Literal["salmon"] = "salmon"
    path: str
    """Folder that holds a folder for each task, or the dataset of the hub, copied."""
    tasks: tuple[SalmonTask, ...] = Field(default=SALMON_TASKS, min_length=1)
    """Tasks to score; the mean is over these."""


class SwuggyConfig(SuiteConfig):
    """sWUGGY: is a word likelier than a non-word that sounds like one?"""

    homepage: ClassVar[str] = "https://zerospeech.com (sLM21; hub: speed/sWUGGY)"
    licence: ClassVar[str] = "see the page"
    size: ClassVar[str] = "what its gold.csv lists"
    published: ClassVar[tuple[Published, ...]] = published("all", three(63.7, 68.8, 69.0))

    name: Literal["swuggy"] = "swuggy"
    path: str
    """ZeroSpeech's root (`lexical/dev/gold.csv` and WAVs), SlamKit's (`swuggy_inter`, `swuggy_oov`), or a
    dataset of the hub with the columns `positive` and `negative`, copied."""
    part: Literal["dev", "test"] = "dev"
    """Part of ZeroSpeech's layout; only dev has a public gold.csv."""


class SblimpConfig(SuiteConfig):
    """sBLIMP: is a grammatical sentence likelier than one that is not?"""

    homepage: ClassVar[str] = "https://zerospeech.com (sLM21; hub: speed/sBLIMP)"
    licence: ClassVar[str] = "see the page"
    size: ClassVar[str] = "dev: 6,300 pairs × 4 voices = 50,400 files"
    published: ClassVar[tuple[Published, ...]] = published(
        "pairs", three(53.9, 55.1, 58.3), also="; over pairs or types: not stated"
    )

    name: Literal["sblimp"] = "sblimp"
    path: str
    """ZeroSpeech's root (`syntactic/dev/gold.csv` and WAVs), SlamKit's (`sblimp`), or a dataset of the hub
    with the columns `positive` and `negative`, copied."""
    part: Literal["dev", "test"] = "dev"
    """Part of ZeroSpeech's layout; only dev has a public gold.csv."""


class StoryClozeConfig(SuiteConfig):
    """What both have in common."""

    homepage: ClassVar[str] = (
        "https://github.com/slp-rl/SpokenStoryCloze (hub: speed/sStoryCloze, tStoryCloze)"
    )
    licence: ClassVar[str] = "see the page"
    size: ClassVar[str] = "1,871 pairs = 3,742 files"

    path: str
    """Folder of `<n>_<story>_correct.wav` and `<n>_<story>_incorrect.wav`, or the dataset of the hub,
    copied."""


class SpokenStoryClozeConfig(StoryClozeConfig):
    """Spoken StoryCloze: is the right ending of a story likelier than a wrong one?"""

    name: Literal["spoken_storycloze"] = "spoken_storycloze"


class TopicStoryClozeConfig(StoryClozeConfig):
    """Topic StoryCloze: is the right ending of a story likelier than that of another story?"""

    published: ClassVar[tuple[Published, ...]] = published("all", three(63.3, 67.6, 82.9))

    name: Literal["topic_storycloze"] = "topic_storycloze"


class ProsAuditConfig(SuiteConfig):
    """ProsAudit: is a pause where it belongs likelier than one where it does not?"""

    homepage: ClassVar[str] = "https://zerospeech.com (prosAudit)"
    licence: ClassVar[str] = "see the page"
    size: ClassVar[str] = "what its gold.csv lists"

    name: Literal["prosaudit"] = "prosaudit"
    path: str
    """Folder that holds `english/dev/gold.csv` and WAVs."""
    part: Literal["dev", "test"] = "dev"
    """Part of it."""


class PairsConfig(SuiteConfig):
    """Pairs of your own, from a table."""

    size: ClassVar[str] = "yours"

    name: Literal["pairs"] = "pairs"
    path: str
    """A `.jsonl` with an object a line, or a `.csv` with a header: `positive` and `negative` are files,
    relative to the table's folder. Known besides: `id`; `item`, for pairs that are not independent of each
    other; `split`, or `positive_split` and `negative_split`, in seconds."""
    groups: tuple[str, ...] = ()
    """Further columns to report by."""
