"""Role → class of tests."""

from __future__ import annotations

from wavslm_core.configs import Role
from wavslm_core.testing.contract.backbone import BackboneContract
from wavslm_core.testing.contract.decoder import DecoderContract
from wavslm_core.testing.contract.encoder import EncoderContract
from wavslm_core.testing.contract.head import HeadContract
from wavslm_core.testing.contract.quantizer import QuantizerContract
from wavslm_core.testing.contract.sampler import SamplerContract
from wavslm_core.testing.contract.subject import Contract

CONTRACTS: dict[Role, type[Contract]] = {
    "encoder": EncoderContract,
    "quantizer": QuantizerContract,
    "decoder": DecoderContract,
    "backbone": BackboneContract,
    "head": HeadContract,
    "sampler": SamplerContract,
}


def contract_class(role: Role) -> type[Contract]:
    """Return the tests of a role. Raises: ValueError for a role that has no contract."""
    if role not in CONTRACTS:
        raise ValueError(f"a {role} has no contract; the roles with one are {', '.join(CONTRACTS)}")
    return CONTRACTS[role]
