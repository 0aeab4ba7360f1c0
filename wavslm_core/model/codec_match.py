"""Whether a codec is the one that a language model was made for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from wavslm_core.errors import CheckpointError
from wavslm_core.model.codec import Codec
from wavslm_core.parts.facts import BackboneFacts, HeadFacts, codec_problem

logger = logging.getLogger(__name__)


def refuse_other_codec(
    codec: Codec,
    backbone: BackboneFacts,
    head: HeadFacts,
    *,
    source: str,
    fingerprint: Mapping[str, Any] | None,
) -> None:
    """Compare a codec with what a language model can read and, if known, with the one it was trained with.

    `source` names the model in messages. Another encoder is only warned about: it may have been trained
    further for the same codes. Raises: CheckpointError.
    """
    problem = codec_problem(codec.facts.quantizer, backbone, head)
    if problem is not None:
        raise CheckpointError(f"{source} {problem}")
    changed = _changed(codec, fingerprint)
    if any(key.startswith("quantizer") for key in changed):
        raise CheckpointError(
            f"{source} was trained with another codec: {', '.join(changed)} differ. Give the codec that "
            "it was trained with"
        )
    _warn(changed, source)


def warn_of_other_codec(codec: Codec, fingerprint: Mapping[str, Any] | None, *, source: str) -> None:
    """Say in the log what of a codec differs from the one that a language model was trained with."""
    _warn(_changed(codec, fingerprint), source)


def _warn(changed: list[str], source: str) -> None:
    if changed:
        logger.warning("%s was trained with a codec whose %s differ", source, ", ".join(changed))


def _changed(codec: Codec, fingerprint: Mapping[str, Any] | None) -> list[str]:
    """Return what of a codec differs from a fingerprint; nothing where there is none."""
    if not fingerprint:
        return []
    return [key for key, value in codec.fingerprint().items() if fingerprint.get(key, value) != value]
