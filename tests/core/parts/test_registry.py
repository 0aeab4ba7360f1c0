"""The registry: names, messages for unknown ones, and factories."""

from pathlib import Path

import pytest

from wavslm_core.errors import PluginError
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.registry import Entry, Registry, known_providers
from wavslm_core.parts.roles import ROLES
from wavslm_core.testing.fake_configs import FakeEncoderConfig, FakeHeadConfig, FakeSamplerConfig


def entry(name: str = "fake", target: str = "pathlib:Path") -> Entry:
    return Entry("encoder", name, FakeEncoderConfig, target, "dist", "1.0")


def test_entries_are_listed_by_role_then_name() -> None:
    registry = Registry()
    registry.add(Entry("head", "z", FakeHeadConfig, "a:B", "dist", "1.0"), entry("b"), entry("a"))
    assert [(found.role, found.name) for found in registry] == [
        ("encoder", "a"),
        ("encoder", "b"),
        ("head", "z"),
    ]
    assert registry.names("encoder") == ["a", "b"]
    assert registry.config_classes("head") == [FakeHeadConfig]


def test_the_same_entry_twice_is_one_and_another_of_its_name_is_refused() -> None:
    registry = Registry()
    registry.add(entry())
    registry.add(entry())
    assert len(list(registry)) == 1
    other = Entry("encoder", "fake", FakeEncoderConfig, "os:path", "other", "2.0")
    with pytest.raises(
        PluginError, match=r"registered twice: by dist \(pathlib:Path\) and by other \(os:path\)"
    ):
        registry.add(entry("new"), other)
    assert registry.names("encoder") == ["fake"], "all or none"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fakke", "no encoder is called 'fakke'. Did you mean 'fake'? Installed: fake."),
        (
            "wavlm",
            "'wavlm' comes with wavslm-wavlm, in a clone of wavslm: pip install ./plugins/wavslm-wavlm",
        ),
        ("wavml", "Did you mean 'wavlm'? Installed: fake. 'wavlm' comes with wavslm-wavlm, in a clone of"),
        ("qqqq", "no encoder is called 'qqqq'. Installed: fake."),
    ],
)
def test_unknown_names_say_what_to_do(name: str, said: str) -> None:
    registry = Registry()
    registry.add(entry())
    with pytest.raises(PluginError) as caught:
        registry.entry("encoder", name)
    assert said in str(caught.value)


def test_a_provider_that_failed_to_load_is_not_offered_for_installation() -> None:
    registry = Registry()
    registry.load_errors["wavslm-wavlm"] = ImportError("no module named x")
    message = registry.unknown("encoder", "wavlm")
    assert "pip install" not in message
    assert "'wavlm' comes with wavslm-wavlm, which failed to load: ImportError: no module named x" in message
    assert "pip install ./plugins/wavslm-next-chunk" in registry.unknown("head", "next_chunk")


def test_the_implementation_is_imported_when_it_is_built() -> None:
    registry = Registry()
    path = "wavslm_core.testing.fakes:FakeSampler"
    registry.add(Entry("sampler", "fake", FakeSamplerConfig, path, "dist", "1.0"))
    assert type(registry.build(FakeSamplerConfig())).__name__ == "FakeSampler"


@pytest.mark.parametrize("target", ["nowhere.at.all:Thing", "pathlib:Nothing"])
def test_an_implementation_that_cannot_be_imported_names_its_distribution(target: str) -> None:
    registry = Registry()
    registry.add(entry(target=target))
    with pytest.raises(PluginError) as caught:
        registry.build(FakeEncoderConfig())
    assert f"encoder 'fake' of dist 1.0 cannot be imported from {target}" in str(caught.value)


@pytest.mark.parametrize("role", ROLES)
def test_what_comes_with_the_plugins_of_this_repository_is_known(role: str) -> None:
    of_this_repository = {path.name for path in Path(__file__).parents[3].glob("plugins/*")}
    assert known_providers(role) == {
        entry.name: entry.distribution
        for entry in load_registry()
        if entry.role == role and entry.distribution in of_this_repository
    }
