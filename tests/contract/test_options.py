"""What `contract_tests` is told, and what it refuses."""

import subprocess
import sys

import pytest
import torch

from tests.contract.broken_parts import CannotBeExported, LeavesWeightAlone
from wavslm_core.parts.interfaces import Encoder
from wavslm_core.parts.registry import Entry, Registry
from wavslm_core.testing import contract_tests
from wavslm_core.testing.contract.chi_square import chi_square_likelihood
from wavslm_core.testing.contract.encoder import EncoderContract
from wavslm_core.testing.fake_configs import FakeEncoderConfig, FakeHeadConfig

CONFIG = FakeEncoderConfig(dim=6, hop_samples=40)


def registry_of(part: type) -> Registry:
    registry = Registry()
    target = f"{part.__module__}:{part.__qualname__}"
    registry.add(Entry("encoder", "fake", FakeEncoderConfig, target, "wavslm-broken", "1.0"))
    return registry


def contract_of(part: type, **options: object) -> EncoderContract:
    tests = contract_tests(CONFIG, registry=registry_of(part), **options)()  # type: ignore[arg-type]
    assert isinstance(tests, EncoderContract)
    return tests


def test_importing_it_needs_neither_torch_nor_pytest() -> None:
    program = "import sys, wavslm_core.testing; sys.exit(bool({'torch', 'pytest'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_linked_fields_must_be_given() -> None:
    with pytest.raises(ValueError, match=r"Give input_dim \(the backbone.output_dim\) in the config"):
        contract_tests(FakeHeadConfig(vocab_size=8))


@pytest.mark.parametrize("options", [{"no_export": " "}, {"no_gradient": {"unused": ""}}])
def test_exemptions_need_a_reason(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="the reason is empty"):
        contract_of(LeavesWeightAlone, **options)


def test_exempt_parameters_may_be_left_alone() -> None:
    contract_of(
        LeavesWeightAlone, no_gradient={"unu*": "kept for old checkpoints"}
    ).test_gradients_reach_every_parameter()
    with pytest.raises(AssertionError, match="no parameter matches other"):
        contract_of(
            LeavesWeightAlone, no_gradient={"unused": "kept", "other": "gone"}
        ).test_gradients_reach_every_parameter()
    with pytest.raises(AssertionError, match=r"linear\.weight are exempt, but gradients reach them"):
        contract_of(
            LeavesWeightAlone, no_gradient={"unused": "kept", "*.weight": "wrong"}
        ).test_gradients_reach_every_parameter()


def test_a_part_that_cannot_be_exported_is_skipped_with_its_reason() -> None:
    with pytest.raises(pytest.skip.Exception, match="it branches on a value"):
        contract_of(CannotBeExported, no_export="it branches on a value").test_export()


def test_parts_are_prepared_after_they_were_built() -> None:
    def fill(part: Encoder[FakeEncoderConfig]) -> None:
        with torch.no_grad():
            for parameter in part.parameters():
                parameter.fill_(0.5)

    part = contract_of(LeavesWeightAlone, prepare=fill).part()
    assert all(bool((parameter == 0.5).all()) for parameter in part.parameters())


def test_chi_square() -> None:
    """Critical values of the table: 1 degree of freedom 3.841, 4 degrees 9.488, at 0.05."""
    fair = torch.tensor([0.5, 0.5])
    shift = (3.841 * 100 / 4) ** 0.5
    assert chi_square_likelihood(torch.tensor([50 + shift, 50 - shift]), fair) == pytest.approx(
        0.05, abs=1e-4
    )
    shift = (9.488 * 20 / 2) ** 0.5
    counts = torch.tensor([20 + shift, 20 - shift, 20, 20, 20])
    assert chi_square_likelihood(counts, torch.full((5,), 0.2)) == pytest.approx(0.05, abs=1e-4)
    assert chi_square_likelihood(torch.tensor([9, 1]), torch.tensor([1.0, 0.0])) == 0
    assert chi_square_likelihood(torch.tensor([1, 1]), torch.tensor([0.5, 0.5])) == 1
