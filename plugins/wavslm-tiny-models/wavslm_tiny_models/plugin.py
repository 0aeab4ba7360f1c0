"""Entry point: registers a codec and the language model over its tokens, both by the same name."""

from pathlib import Path

from wavslm_core.plugin import RegisterCheckpoint, hookimpl

TINY = Path(__file__).parent / "tiny"


@hookimpl
def register_checkpoints(register: RegisterCheckpoint) -> None:
    register(
        "tiny",
        kind="codec",
        folder=TINY / "codec",
        about="4096 codes, 50 a second, distilled on eight hours of synthetic voices; 80 ms chunks",
        license="Apache-2.0",
    )
    register(
        "tiny",
        kind="speech_lm",
        folder=TINY / "speech_lm",
        about="speaks on in the tokens of the codec tiny; trained on eight hours of synthetic voices",
        license="Apache-2.0",
    )
