"""Every hook and every role says what it is for, and CONTRIBUTING or README names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.roles import ROLES

ROOT = Path(__file__).resolve().parents[2]


def test_every_role_says_what_it_is_and_contributors_find_its_hook() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for spec in ROLES.values():
        assert spec.about
        assert f"`{spec.hook}`" in page, f"CONTRIBUTING does not name {spec.hook}"


@pytest.mark.parametrize("role", ROLES)
def test_the_readme_lists_what_is_registered(role: str) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for entry in load_registry():
        if entry.role == role and entry.distribution.startswith("wavslm-") and entry.name != "fake":
            assert f"`{entry.name}`" in text, f"README does not list {role} `{entry.name}`"


def test_every_option_is_documented() -> None:
    for entry in load_registry():
        for name, text in entry.config_class.descriptions().items():
            if name != entry.config_class.tag:
                assert text, f"{entry.role} {entry.name}: field {name} has no docstring"
