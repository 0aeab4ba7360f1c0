"""Options of the suites, where their data is, and what was published for them; free of torch."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from wavslm_core.plugin import Block, CorpusConfig, Published, SuiteConfig, config_from_dict

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


SpeakerTask = Literal["speaker", "gender"]
SPEAKER_TASKS: tuple[SpeakerTask, ...] = get_args(SpeakerTask)


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


class SpeakerConsistencyConfig(SuiteConfig):
    """Does speech go on in the same voice? Pairs are cut out of any speech whose speakers are known."""

    licence: ClassVar[str] = "that of the speech"
    size: ClassVar[str] = "200 pairs a task = 400 files, or what `pairs` says"

    name: Literal["speaker_consistency"] = "speaker_consistency"
    path: str | None = None
    """Folder of recordings, each file's name beginning with its speaker and a hyphen, as in LibriSpeech. For
    anything else give `corpus`."""
    corpus: Annotated[CorpusConfig, Block("corpus")] | None = None
    """Instead of `path`: a corpus that knows its speakers, such as `{corpus: librispeech, path: …}`, or
    `{corpus: folder, path: …, speaker_separator: /}` for a folder a speaker."""
    split: str = "valid"
    """Split of `corpus`."""
    speakers: str | None = None
    """Table with the columns `speaker` and `sex` (F or M, may be empty), with tabs, commas or | between them,
    such as LibriSpeech's SPEAKERS.TXT. Without it the other speaker is any other one."""
    tasks: tuple[SpeakerTask, ...] = Field(default=(), max_length=2)
    """`speaker`: it switches to another speaker of the same sex; `gender`: to one of the other sex, which
    needs `speakers`. Default: all that can be."""
    pairs: int = Field(default=200, ge=2, le=20_000, multiple_of=2)
    """Pairs of each task, an even number."""
    second: Literal["other_utterance", "same_utterance"] = "other_utterance"
    """Where the right second half comes from: another utterance of the speaker, so that what is said does not
    tell, or what follows in the same one, as in SALMon."""
    seconds: tuple[float, float] = (1.5, 4.0)
    """The shortest and the longest half."""
    uses: int = Field(default=4, ge=1)
    """A piece of speech is so often a first half in a task at most, and so often a second one of an item."""
    grid_seconds: float = Field(default=0.08, gt=0, le=1)
    """Pairs split at a multiple of it, so that a codec frames a second half alike wherever it stands."""
    sample_rate_hz: int = Field(default=16_000, ge=8000, le=48_000)
    """Sampling rate of the recordings."""
    seed: int = Field(default=0, ge=0)
    """Another seed makes other pairs."""

    @model_validator(mode="after")
    def _can_be_made(self) -> "SpeakerConsistencyConfig":
        if (self.path is None) == (self.corpus is None):
            raise ValueError(
                "give either `path`, a folder, or `corpus`, a block such as {corpus: librispeech, …}"
            )
        if "gender" in self.tasks and self.speakers is None:
            raise ValueError("task gender needs `speakers`, a table that tells the sex of each speaker")
        if len({*self.tasks}) < len(self.tasks):
            raise ValueError(f"tasks are {', '.join(self.tasks)}; name each once")
        shortest, longest = self.seconds
        if not 2 * self.grid_seconds <= shortest <= longest / 1.2 <= 50:
            raise ValueError(
                f"seconds are {shortest:g} and {longest:g}: the shortest half must have twice grid_seconds, "
                f"{2 * self.grid_seconds:g}, or more, the longest 1.2 times the shortest, 60 at most"
            )
        return self

    @property
    def all_tasks(self) -> tuple[SpeakerTask, ...]:
        """The tasks that are made."""
        return self.tasks or (SPEAKER_TASKS if self.speakers is not None else ("speaker",))

    def source(self) -> tuple[CorpusConfig, str]:
        """Return the corpus, and the split of it, that speech is taken from."""
        if self.path is None:
            assert self.corpus is not None
            return self.corpus, self.split
        block = {"corpus": "folder", "path": self.path, "speaker_separator": "-", "valid_fraction": 0.0}
        corpus = config_from_dict("corpus", block, where="corpus")
        assert isinstance(corpus, CorpusConfig)
        return corpus, "train"
