"""Core's own stages, corpora, metrics and chain of samplers, registered through the same door as others'."""

from wavslm_core.data.folder import FolderConfig
from wavslm_core.evaluation.config import MelDistanceConfig, StoiConfig
from wavslm_core.model.chain import ChainConfig
from wavslm_core.parts.plugins import hookimpl
from wavslm_core.parts.roles import Register
from wavslm_core.stages.evaluate import EvaluateConfig
from wavslm_core.stages.generate import GenerateConfig
from wavslm_core.stages.report import ReportConfig
from wavslm_core.stages.score_suites import ScoreSuitesConfig
from wavslm_core.stages.tokenize import TokenizeConfig
from wavslm_core.stages.train_codec import TrainCodecConfig
from wavslm_core.stages.train_lm import TrainLmConfig


@hookimpl
def register_stages(register: Register) -> None:
    register(TrainCodecConfig, "wavslm_core.stages.train_codec:TrainCodec")
    register(TokenizeConfig, "wavslm_core.stages.tokenize:Tokenize")
    register(TrainLmConfig, "wavslm_core.stages.train_lm:TrainLm")
    register(EvaluateConfig, "wavslm_core.stages.evaluate:Evaluate")
    register(GenerateConfig, "wavslm_core.stages.generate:Generate")
    register(ScoreSuitesConfig, "wavslm_core.stages.score_suites:ScoreSuites")
    register(ReportConfig, "wavslm_core.stages.report:Report")


@hookimpl
def register_samplers(register: Register) -> None:
    register(ChainConfig, "wavslm_core.model.sampling:SamplerChain")


@hookimpl
def register_corpora(register: Register) -> None:
    register(FolderConfig, "wavslm_core.data.folder:Folder")


@hookimpl
def register_metrics(register: Register) -> None:
    register(MelDistanceConfig, "wavslm_core.evaluation.metrics:MelDistance")
    register(StoiConfig, "wavslm_core.evaluation.metrics:Stoi")
