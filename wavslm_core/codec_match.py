"""Whether a codec is the one that a language model was made for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from wavslm_core.codec import Codec
from wavslm_core.errors import CheckpointError
from wavslm_core.facts import BackboneFacts, HeadFacts

logger = logging.getLogger(__name__)

WANTED = "Give the codec that it was trained with"


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
    quantizer = codec.facts.quantizer
    if head.vocab_size != quantizer.vocab_size:
        raise CheckpointError(
            f"{source} models {head.vocab_size} codes, but the codec has {quantizer.vocab_size}. {WANTED}"
        )
    if backbone.input == "features":
        if quantizer.tokens_per_frame != quantizer.frames_per_token:
            raise CheckpointError(
                f"{source} reads one feature vector per token, but the codec gives "
                f"{quantizer.frames_per_token} for {quantizer.tokens_per_frame}. Give another codec, or a "
                "language model that reads tokens (`backbone.input: embedding`)"
            )
        if backbone.input_dim != quantizer.output_dim:
            raise CheckpointError(
                f"{source} reads features of width {backbone.input_dim}, but the codec gives "
                f"{quantizer.output_dim}. {WANTED}"
            )
    if not fingerprint:
        return
    current = codec.fingerprint()
    changed = [key for key, value in current.items() if fingerprint.get(key, value) != value]
    if any(key.startswith("quantizer") for key in changed):
        raise CheckpointError(
            f"{source} was trained with another codec: {', '.join(changed)} differ. {WANTED}"
        )
    if changed:
        logger.warning("%s was trained with a codec whose %s differ", source, ", ".join(changed))
