"""Each role has all that those who implement it ask for."""

from typing import ClassVar

import pytest

from wavslm_core import plugin
from wavslm_core.parts.configs import Config, Role
from wavslm_core.parts.registry import imported
from wavslm_core.parts.roles import ROLES, RoleSpec
from wavslm_core.testing.contract.subject import Contract


@pytest.mark.parametrize("spec", ROLES.values(), ids=ROLES)
def test_plugins_find_its_config_its_interface_and_its_contract(spec: RoleSpec) -> None:
    lacking = {spec.config.__name__, spec.interface.partition(":")[2]} - {*plugin.__all__}
    assert not lacking, f"plugin.pyi does not import {', '.join(lacking)}"
    module, _, name = spec.contract.partition(":")
    try:
        contract = imported(spec.contract)
    except (ImportError, AttributeError):
        pytest.fail(f"there is no class {name} in {module}")
    assert issubclass(contract, Contract)


def test_a_role_of_two_words_has_classes_of_two_words() -> None:
    class VoiceJudgeConfig(Config):
        role: ClassVar[Role] = "voice_judge"

    spec = RoleSpec(VoiceJudgeConfig, "somewhere:VoiceJudge", "register_voice_judges", "Judges voices")
    assert spec.contract == "wavslm_core.testing.contract.voice_judge:VoiceJudgeContract"
