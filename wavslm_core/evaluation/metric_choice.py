"""Which metrics a recipe asks for: names, or names with options, checked when the recipe is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationError

from wavslm_core.parts.configs import MetricConfig

MetricChoice = str | dict[str, Any]
"""`stoi`, or `{name: stoi, extended: true}`."""


def metric_configs(choices: Sequence[MetricChoice]) -> list[MetricConfig]:
    """Return the configs. Raises: ValueError for an unknown or repeated metric or a wrong option."""
    from wavslm_core.errors import did_you_mean
    from wavslm_core.parts.plugins import load_registry

    registry = load_registry()
    configs: list[MetricConfig] = []
    for choice in choices:
        options = {"name": choice} if isinstance(choice, str) else choice
        name = str(options.get("name", ""))
        if name not in registry.names("metric"):
            raise ValueError(registry.unknown("metric", name))
        config_class = registry.entry("metric", name).config_class
        try:
            config = config_class.model_validate(options)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(piece) for piece in first["loc"])
            raise ValueError(
                f"metric '{name}': {field}: {first['msg']} (given: {first['input']!r})."
                f"{did_you_mean(field, config_class.model_fields)} "
                f"Its options are: {', '.join(config_class.model_fields)}"
            ) from None
        if config in configs or name in [other.registered_name() for other in configs]:
            raise ValueError(f"metric '{name}' is given twice; leave one out")
        assert isinstance(config, MetricConfig)
        configs.append(config)
    return configs


def _known(choices: tuple[MetricChoice, ...]) -> tuple[MetricChoice, ...]:
    metric_configs(choices)
    return choices


MetricChoices = Annotated[tuple[MetricChoice, ...], AfterValidator(_known)]
"""The type of a field that takes metrics."""
