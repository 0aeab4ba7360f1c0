"""Role → class of tests."""

from __future__ import annotations

from wavslm_core.parts.configs import Role
from wavslm_core.testing.contract.backbone import BackboneContract
from wavslm_core.testing.contract.corpus import CorpusContract
from wavslm_core.testing.contract.decoder import DecoderContract
from wavslm_core.testing.contract.encoder import EncoderContract
from wavslm_core.testing.contract.format import FormatContract
from wavslm_core.testing.contract.head import HeadContract
from wavslm_core.testing.contract.metric import MetricContract
from wavslm_core.testing.contract.quantizer import QuantizerContract
from wavslm_core.testing.contract.sampler import SamplerContract
from wavslm_core.testing.contract.stage import StageContract
from wavslm_core.testing.contract.subject import Contract

CONTRACTS: dict[Role, type[Contract]] = {
    "encoder": EncoderContract,
    "quantizer": QuantizerContract,
    "decoder": DecoderContract,
    "backbone": BackboneContract,
    "head": HeadContract,
    "sampler": SamplerContract,
    "stage": StageContract,
    "metric": MetricContract,
    "corpus": CorpusContract,
    "format": FormatContract,
}
