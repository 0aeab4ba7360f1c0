"""Configs of parts that break their contract; see `broken_parts`. No torch, as in any plugin."""

from dataclasses import replace
from functools import cache, partial
from typing import Any, TypeVar

from pydantic import Field

from wavslm_core.parts.configs import PartConfig
from wavslm_core.testing.fake_configs import FakeEncoderConfig

C = TypeVar("C", bound=PartConfig)


def stating(config: C, **facts: Any) -> C:
    """Return a config like this one that states some facts otherwise."""
    return _stating(type(config), **facts)(**config.model_dump())


@cache
def _stating(config_class: type[C], **facts: Any) -> type[C]:
    class Stating(config_class):  # type: ignore[valid-type,misc]
        """States something else than what holds."""

        def facts(self) -> Any:
            return replace(super().facts(), **facts)

        def __reduce__(self) -> Any:
            # It has no name of its own by which it would be found.
            return partial(stating, config_class(**self.model_dump()), **facts), ()

    return Stating


class NamelessFieldConfig(FakeEncoderConfig):
    """Has an option without help text."""

    width: int = 3


class ForgetfulConfig(FakeEncoderConfig):
    """Loses an option when it is written down."""

    width: int = Field(default=3, exclude=True)
    """An option."""
