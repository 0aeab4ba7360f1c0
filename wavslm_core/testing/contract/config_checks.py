"""What holds for the config of every role: it is plain data, stated without torch, and it is registered."""

import copy
import importlib
import json
import os
import pickle
import subprocess
import sys
from dataclasses import fields
from functools import cache
from typing import Any, cast

import pytest
from pydantic import ValidationError

from wavslm_core.parts.configs import PartConfig
from wavslm_core.parts.roles import ROLES
from wavslm_core.testing.contract.subject import Contract

MAY_BE_ZERO = {"delay_samples", "history_tokens"}


@cache
def imports_torch(module: str) -> bool:
    """Return whether importing a module in a fresh process imports torch."""
    program = f"import sys, {module}; sys.exit(3 if 'torch' in sys.modules else 0)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 3), f"importing {module} in a fresh process fails: {done.stderr}"
    return done.returncode == 3


class ConfigChecks(Contract):
    def built(self) -> Any:
        """Return what the registry makes of the config."""
        return self.subject.registry.build(self.subject.config)

    def test_config_round_trip(self) -> None:
        config = self.subject.config
        for form, value in {"Python": config.model_dump(), "JSON": config.model_dump(mode="json")}.items():
            again = type(config).model_validate(json.loads(json.dumps(value)) if form == "JSON" else value)
            self.require(
                again == config,
                f"its config, dumped to {form} and validated again, became {again!r}",
                "a config is plain data, so that recipes and checkpoints can hold it",
            )

    def test_config_schema(self) -> None:
        config_class = type(self.subject.config)
        schema = json.loads(json.dumps(config_class.model_json_schema()))
        bare = [
            name
            for name, text in config_class.descriptions().items()
            if name != config_class.tag and not text
        ]
        self.require(
            set(schema["properties"]) == set(config_class.model_fields) and not bare,
            f"its fields {', '.join(bare) or 'are not those of its JSON schema'} have no help text",
            "every field has a docstring under it, which editors and `--help` show",
        )

    def test_config_is_strict(self) -> None:
        config = self.subject.config
        with pytest.raises(ValidationError):
            type(config).model_validate(config.model_dump() | {"no_such_option": 1})
        with pytest.raises(ValidationError):
            setattr(config, config.tag, "other")

    def test_config_pickles_and_copies(self) -> None:
        config = self.subject.config
        for how, again in {
            "pickled": pickle.loads(pickle.dumps(config)),
            "deep-copied": copy.deepcopy(config),
        }.items():
            self.require(
                again == config, f"its config changed when {how}", "configs cross processes unchanged"
            )

    def test_config_imports_no_torch(self) -> None:
        module = type(self.subject.config).__module__
        self.require(
            not imports_torch(module),
            f"importing {module} imports torch",
            "configs live without torch, so that listing plugins and checking recipes is instant",
        )

    def test_registered(self) -> None:
        config, registry = self.subject.config, self.subject.registry
        entry = registry.entry(config.role, config.registered_name())
        self.require(
            entry.config_class is type(config),
            f"its name is registered with {entry.config_class.__qualname__}",
            "a config is registered under its own name",
        )
        module, _, attribute = ROLES[config.role].interface.partition(":")
        interface = getattr(importlib.import_module(module), attribute)
        part = self.built()
        self.require(
            isinstance(part, interface) and part.config == config,
            f"building it gave {type(part).__qualname__} with the config {getattr(part, 'config', None)!r}",
            f"building gives a {attribute} that keeps its config",
        )


class PartChecks(ConfigChecks):
    """What holds for the configs of the six roles besides."""

    def test_links_name_facts(self) -> None:
        for field, source in type(self.subject.config).links().items():
            role, _, fact = source.partition(".")
            known = ROLES[role].facts if role in ROLES else None
            self.require(
                known is not None and (fact in known.__annotations__ or hasattr(known, fact)),
                f"its field {field} is linked to '{source}', which is no fact",
                "a link names a role and one of its facts, such as quantizer.vocab_size",
            )

    def test_facts(self) -> None:
        config = cast(PartConfig, self.subject.config)
        stated, wanted = config.facts(), ROLES[config.role].facts
        assert wanted is not None
        self.require(
            type(stated) is wanted and stated == config.facts(),
            f"facts() gave {stated!r}",
            f"facts() of a {config.role} gives the same {wanted.__name__} every time",
        )
        for field in fields(stated):
            value = getattr(stated, field.name)
            if isinstance(value, int) and not isinstance(value, bool):
                self.require(
                    value > 0 or (value == 0 and field.name in MAY_BE_ZERO),
                    f"its fact {field.name} is {value}",
                    "rates, widths and counts are positive",
                )
