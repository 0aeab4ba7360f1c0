"""Options of the judges."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from wavslm_core.plugin import MetricConfig


class DnsmosConfig(MetricConfig):
    """DNSMOS P.835: how people would rate speech, 1 to 5: overall, signal, background; higher is better.

    A network's guess, trained on noisy and enhanced speech; compare its numbers with each other only.
    """

    name: Literal["dnsmos"] = "dnsmos"
    needs_reference: ClassVar[bool] = False


class WordErrorConfig(MetricConfig):
    """Wrong words per word, as a speech recogniser hears them; lower is better, 0 is best.

    Against the transcript where the corpus has one, else against what the recogniser hears in the original.
    """

    name: Literal["word_error"] = "word_error"
    recogniser: Literal["pocketsphinx", "faster_whisper"] = "pocketsphinx"
    """`pocketsphinx` brings an English model along; `faster_whisper` is far better and needs a `model`."""
    model: str | None = Field(default=None, min_length=1)
    """Folder of the recogniser's model. pocketsphinx: acoustic model; default: the one in its wheel."""
    language_model: str | None = Field(default=None, min_length=1)
    """pocketsphinx: a text file with what may be said, an utterance a line. Only its words are expected then,
    which helps with voices that the general model does not know. Default: general English."""
    against: Literal["transcript", "original"] = "transcript"
    """`original`: compare with what is heard in the original even where there is a transcript, so that only
    what the model changed counts."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.recogniser == "faster_whisper" and self.model is None:
            raise ValueError(
                "recogniser faster_whisper needs `model`: the folder of a CTranslate2 Whisper model on this "
                "machine. Give it, or use pocketsphinx"
            )
        if self.recogniser == "faster_whisper" and self.language_model is not None:
            raise ValueError("language_model is for pocketsphinx only: leave it out for faster_whisper")
        return self
