"""Libraries that judges stand on: imported when they are needed, and named with their versions."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from wavslm_core.plugin import WavslmError, load_torchaudio


def load_transformers(metric: str) -> ModuleType:
    """Import transformers. Raises: WavslmError naming the extra when it is not installed."""
    # Makes torchaudio, which transformers imports, importable where its wheel does not match torch.
    load_torchaudio()
    try:
        import transformers
    except ImportError as error:
        raise WavslmError(
            f"the metric '{metric}' needs {error.name}, which is not installed. Install it with: "
            f"pip install 'wavslm-judges[transformers]', or leave '{metric}' out of `metrics`"
        ) from None
    return transformers


def versions_of(*distributions: str) -> dict[str, str]:
    """Return distribution → its version, without what is not installed."""
    found = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
