"""All that a plugin needs of wavslm; `wavslm_core.testing` holds it to its contract.

Configs, facts, hooks and errors are here at once, without torch; everything else is imported when it is first
asked for. What is not here may move.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wavslm_core.errors import (
    ArgumentError,
    AudioError,
    CheckpointError,
    DataError,
    PluginError,
    RecipeError,
    StreamingError,
    WavslmError,
    did_you_mean,
    summary,
)
from wavslm_core.machine.processes import Interrupted
from wavslm_core.parts.configs import (
    BackboneConfig,
    CorpusConfig,
    DecoderConfig,
    EncoderConfig,
    FormatConfig,
    HeadConfig,
    MetricConfig,
    Options,
    PartConfig,
    QuantizerConfig,
    RecipeView,
    Role,
    SamplerConfig,
    StageConfig,
    linked,
)
from wavslm_core.parts.facts import (
    BackboneFacts,
    DecoderFacts,
    EncoderFacts,
    HeadFacts,
    QuantizerFacts,
    SamplerFacts,
)
from wavslm_core.parts.plugins import hookimpl
from wavslm_core.parts.roles import Register

if TYPE_CHECKING:
    from wavslm_core.data.audio import load_torchaudio, resample
    from wavslm_core.data.audio_files import (
        AUDIO_SUFFIXES,
        READABLE_FORMATS,
        AudioBytes,
        AudioSource,
        printable,
    )
    from wavslm_core.data.audio_tree import walk
    from wavslm_core.data.corpora import Corpus, CutConfig, Utterance
    from wavslm_core.data.manifest import Recording
    from wavslm_core.data.recorded import RecordedCorpus, Recordings
    from wavslm_core.machine.files import open_in_place, replacing, replacing_folder, unwritable
    from wavslm_core.machine.json_files import parse_json, parse_object, read_object
    from wavslm_core.machine.locks import one_at_a_time
    from wavslm_core.machine.processes import divide
    from wavslm_core.machine.progress import progress_bar
    from wavslm_core.machine.regular_files import read_regular, size_of_regular
    from wavslm_core.machine.shared_rows import all_rows, mean_of_all, same_random_numbers
    from wavslm_core.model.codec import Codec
    from wavslm_core.model.documents import CONFIG_FILE, read_document
    from wavslm_core.model.speech_lm import SpeechLM
    from wavslm_core.model.weight_files import (
        INDEX,
        PICKLE_FILE,
        WEIGHTS_FILE,
        joined,
        read_folder,
        read_torch,
        tensors_in,
    )
    from wavslm_core.model.weights import (
        SkipInitialisation,
        find_folder,
        load_part,
        load_state,
        write_document,
        write_weights,
    )
    from wavslm_core.parts.interfaces import (
        Backbone,
        CheckpointFormat,
        CheckpointParts,
        Decoder,
        Draw,
        Encoder,
        Head,
        Quantizer,
        QuantizerOutput,
        Sampler,
        SamplingContext,
        State,
    )
    from wavslm_core.parts.lengths import valid_mask, zero_padding
    from wavslm_core.parts.metric import Measured, Metric, ReferenceFreeMetric, check_pair
    from wavslm_core.parts.packing import LinearGelu, PackLinear
    from wavslm_core.parts.plugins import load_registry
    from wavslm_core.parts.streaming import (
        PIECE_FRAMES,
        CausalConv1d,
        FrameRing,
        Padding,
        StateReader,
        join_states,
        new_position,
    )
    from wavslm_core.run.context import StageContext
    from wavslm_core.stages.base import Stage, TrainingStage
    from wavslm_core.stages.train_codec import TrainCodec, TrainCodecConfig
    from wavslm_core.stages.train_lm import TrainLm, TrainLmConfig
    from wavslm_core.training.codec_task import CodecTask
    from wavslm_core.training.config import OptimizerConfig, TrainingConfig
    from wavslm_core.training.lm_task import LanguageModelTask
    from wavslm_core.training.loop import fit
    from wavslm_core.training.task import LossOutput, Player, Task
    from wavslm_core.training.tracking import Tracker

_LATER = {
    "wavslm_core.data.audio": "load_torchaudio resample",
    "wavslm_core.data.audio_files": "AUDIO_SUFFIXES AudioBytes AudioSource READABLE_FORMATS printable",
    "wavslm_core.data.audio_tree": "walk",
    "wavslm_core.data.corpora": "Corpus CutConfig Utterance",
    "wavslm_core.data.manifest": "Recording",
    "wavslm_core.data.recorded": "RecordedCorpus Recordings",
    "wavslm_core.machine.processes": "divide",
    "wavslm_core.machine.files": "open_in_place replacing replacing_folder unwritable",
    "wavslm_core.machine.json_files": "parse_json parse_object read_object",
    "wavslm_core.machine.locks": "one_at_a_time",
    "wavslm_core.machine.progress": "progress_bar",
    "wavslm_core.machine.regular_files": "read_regular size_of_regular",
    "wavslm_core.machine.shared_rows": "all_rows mean_of_all same_random_numbers",
    "wavslm_core.model.codec": "Codec",
    "wavslm_core.model.documents": "CONFIG_FILE read_document",
    "wavslm_core.model.speech_lm": "SpeechLM",
    "wavslm_core.model.weight_files": (
        "INDEX PICKLE_FILE WEIGHTS_FILE joined read_folder read_torch tensors_in"
    ),
    "wavslm_core.model.weights": (
        "SkipInitialisation find_folder load_part load_state write_document write_weights"
    ),
    "wavslm_core.parts.interfaces": (
        "Backbone CheckpointFormat CheckpointParts Decoder Draw Encoder Head Quantizer QuantizerOutput "
        "Sampler SamplingContext State"
    ),
    "wavslm_core.parts.lengths": "valid_mask zero_padding",
    "wavslm_core.parts.metric": "Measured Metric ReferenceFreeMetric check_pair",
    "wavslm_core.parts.packing": "LinearGelu PackLinear",
    "wavslm_core.parts.plugins": "load_registry",
    "wavslm_core.parts.streaming": (
        "CausalConv1d FrameRing PIECE_FRAMES Padding StateReader join_states new_position"
    ),
    "wavslm_core.run.context": "StageContext",
    "wavslm_core.stages.base": "Stage TrainingStage",
    "wavslm_core.stages.train_codec": "TrainCodec TrainCodecConfig",
    "wavslm_core.stages.train_lm": "TrainLm TrainLmConfig",
    "wavslm_core.training.codec_task": "CodecTask",
    "wavslm_core.training.config": "OptimizerConfig TrainingConfig",
    "wavslm_core.training.lm_task": "LanguageModelTask",
    "wavslm_core.training.loop": "fit",
    "wavslm_core.training.task": "LossOutput Player Task",
    "wavslm_core.training.tracking": "Tracker",
}
"""Module → the names in it that are imported when they are asked for."""

_MODULES = {name: module for module, names in _LATER.items() for name in names.split()}

__all__ = [
    "AUDIO_SUFFIXES",
    "CONFIG_FILE",
    "INDEX",
    "PICKLE_FILE",
    "PIECE_FRAMES",
    "READABLE_FORMATS",
    "WEIGHTS_FILE",
    "ArgumentError",
    "AudioBytes",
    "AudioError",
    "AudioSource",
    "Backbone",
    "BackboneConfig",
    "BackboneFacts",
    "CausalConv1d",
    "CheckpointError",
    "CheckpointFormat",
    "CheckpointParts",
    "Codec",
    "CodecTask",
    "Corpus",
    "CorpusConfig",
    "CutConfig",
    "DataError",
    "Decoder",
    "DecoderConfig",
    "DecoderFacts",
    "Draw",
    "Encoder",
    "EncoderConfig",
    "EncoderFacts",
    "FormatConfig",
    "FrameRing",
    "Head",
    "HeadConfig",
    "HeadFacts",
    "Interrupted",
    "LanguageModelTask",
    "LinearGelu",
    "LossOutput",
    "Measured",
    "Metric",
    "MetricConfig",
    "OptimizerConfig",
    "Options",
    "PackLinear",
    "Padding",
    "PartConfig",
    "Player",
    "PluginError",
    "Quantizer",
    "QuantizerConfig",
    "QuantizerFacts",
    "QuantizerOutput",
    "RecipeError",
    "RecipeView",
    "RecordedCorpus",
    "Recording",
    "Recordings",
    "ReferenceFreeMetric",
    "Register",
    "Role",
    "Sampler",
    "SamplerConfig",
    "SamplerFacts",
    "SamplingContext",
    "SkipInitialisation",
    "SpeechLM",
    "Stage",
    "StageConfig",
    "StageContext",
    "State",
    "StateReader",
    "StreamingError",
    "Task",
    "Tracker",
    "TrainCodec",
    "TrainCodecConfig",
    "TrainLm",
    "TrainLmConfig",
    "TrainingConfig",
    "TrainingStage",
    "Utterance",
    "WavslmError",
    "all_rows",
    "check_pair",
    "did_you_mean",
    "divide",
    "find_folder",
    "fit",
    "hookimpl",
    "join_states",
    "joined",
    "linked",
    "load_part",
    "load_registry",
    "load_state",
    "load_torchaudio",
    "mean_of_all",
    "new_position",
    "one_at_a_time",
    "open_in_place",
    "parse_json",
    "parse_object",
    "printable",
    "progress_bar",
    "read_document",
    "read_folder",
    "read_object",
    "read_regular",
    "read_torch",
    "replacing",
    "replacing_folder",
    "resample",
    "same_random_numbers",
    "size_of_regular",
    "summary",
    "tensors_in",
    "unwritable",
    "valid_mask",
    "walk",
    "write_document",
    "write_weights",
    "zero_padding",
]  # fmt: skip


if not TYPE_CHECKING:
    # Type checkers know every name from above, and nothing else.

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"wavslm_core.plugin has no {name}")
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
