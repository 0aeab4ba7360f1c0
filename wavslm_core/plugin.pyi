"""The names of `wavslm_core.plugin` and where each is imported from: the one list of them."""

from wavslm_core.data.audio import (
    load_torchaudio as load_torchaudio,
    read_audio as read_audio,
    resample as resample,
)
from wavslm_core.data.audio_files import (
    AUDIO_SUFFIXES as AUDIO_SUFFIXES,
    READABLE_FORMATS as READABLE_FORMATS,
    AudioBytes as AudioBytes,
    AudioSource as AudioSource,
    audio_info as audio_info,
    printable as printable,
)
from wavslm_core.data.audio_tree import walk as walk
from wavslm_core.data.batches import (
    Batching as Batching,
    Crop as Crop,
    length_batches as length_batches,
    spread as spread,
)
from wavslm_core.data.codebook import codebook_use as codebook_use, count_codes as count_codes
from wavslm_core.data.corpora import (
    Corpus as Corpus,
    CutConfig as CutConfig,
    Split as Split,
    Utterance as Utterance,
    open_split as open_split,
)
from wavslm_core.data.cutting import stretches_of_voice as stretches_of_voice
from wavslm_core.data.made_suites import (
    MadePair as MadePair,
    MadeSuite as MadeSuite,
    spectral_distance_db as spectral_distance_db,
)
from wavslm_core.data.manifest import Recording as Recording
from wavslm_core.data.recorded import RecordedCorpus as RecordedCorpus, Recordings as Recordings
from wavslm_core.data.suites import (
    ALL_PAIRS as ALL_PAIRS,
    Average as Average,
    Finding as Finding,
    Group as Group,
    Pair as Pair,
    PairList as PairList,
    Suite as Suite,
)
from wavslm_core.data.token_store import TokenStore as TokenStore
from wavslm_core.data.token_writer import (
    ShardRecord as ShardRecord,
    TokenWriter as TokenWriter,
    plan_digest as plan_digest,
    plan_shards as plan_shards,
)
from wavslm_core.errors import (
    ArgumentError as ArgumentError,
    AudioError as AudioError,
    CheckpointError as CheckpointError,
    DataError as DataError,
    NoCodecError as NoCodecError,
    PluginError as PluginError,
    RecipeError as RecipeError,
    StreamingError as StreamingError,
    WavslmError as WavslmError,
    did_you_mean as did_you_mean,
    summary as summary,
)
from wavslm_core.machine.devices import choose_device as choose_device
from wavslm_core.machine.files import (
    open_in_place as open_in_place,
    replacing as replacing,
    replacing_folder as replacing_folder,
    unwritable as unwritable,
    write_json as write_json,
)
from wavslm_core.machine.json_files import (
    json_digest as json_digest,
    parse_json as parse_json,
    parse_object as parse_object,
    read_json as read_json,
    read_object as read_object,
)
from wavslm_core.machine.locks import kept_folder as kept_folder, one_at_a_time as one_at_a_time
from wavslm_core.machine.processes import (
    Interrupted as Interrupted,
    Processes as Processes,
    divide as divide,
)
from wavslm_core.machine.progress import progress_bar as progress_bar
from wavslm_core.machine.regular_files import read_regular as read_regular, size_of_regular as size_of_regular
from wavslm_core.machine.shared_rows import (
    all_rows as all_rows,
    mean_of_all as mean_of_all,
    same_random_numbers as same_random_numbers,
)
from wavslm_core.machine.terminal import echo as echo, quiet as quiet
from wavslm_core.machine.timings import cache_folder as cache_folder, processor as processor
from wavslm_core.model.chunk_step import ChunkStep as ChunkStep, NextChunk as NextChunk
from wavslm_core.model.codec import Codec as Codec
from wavslm_core.model.documents import CONFIG_FILE as CONFIG_FILE, read_document as read_document
from wavslm_core.model.folders import (
    encoder_parts as encoder_parts,
    load_encoder as load_encoder,
    save_encoder as save_encoder,
)
from wavslm_core.model.inference import cpu_only as cpu_only
from wavslm_core.model.references import find_folder as find_folder
from wavslm_core.model.session import Session as Session
from wavslm_core.model.speech_lm import SpeechLM as SpeechLM
from wavslm_core.model.token_lm import SamplerLike as SamplerLike
from wavslm_core.model.weight_files import (
    INDEX as INDEX,
    PICKLE_FILE as PICKLE_FILE,
    WEIGHTS_FILE as WEIGHTS_FILE,
    joined as joined,
    read_folder as read_folder,
    read_torch as read_torch,
    tensors_in as tensors_in,
)
from wavslm_core.model.weights import (
    SkipInitialisation as SkipInitialisation,
    load_part as load_part,
    load_state as load_state,
    weights_digest as weights_digest,
    write_document as write_document,
    write_weights as write_weights,
)
from wavslm_core.parts.backoff import BackoffModel as BackoffModel
from wavslm_core.parts.blocks import Block as Block, config_from_dict as config_from_dict
from wavslm_core.parts.checkpoints import RegisterCheckpoint as RegisterCheckpoint
from wavslm_core.parts.commands import RegisterCommand as RegisterCommand
from wavslm_core.parts.configs import (
    BackboneConfig as BackboneConfig,
    CorpusConfig as CorpusConfig,
    DataConfig as DataConfig,
    DecoderConfig as DecoderConfig,
    DiscriminatorConfig as DiscriminatorConfig,
    EncoderConfig as EncoderConfig,
    FormatConfig as FormatConfig,
    HeadConfig as HeadConfig,
    MetricConfig as MetricConfig,
    Options as Options,
    PartConfig as PartConfig,
    Published as Published,
    QuantizerConfig as QuantizerConfig,
    RecipeView as RecipeView,
    Role as Role,
    SamplerConfig as SamplerConfig,
    StageConfig as StageConfig,
    SuiteConfig as SuiteConfig,
    linked as linked,
)
from wavslm_core.parts.engines import RegisterEngine as RegisterEngine
from wavslm_core.parts.estimates import Estimate as Estimate, ratio_estimate as ratio_estimate
from wavslm_core.parts.facts import (
    BackboneFacts as BackboneFacts,
    DecoderFacts as DecoderFacts,
    EncoderFacts as EncoderFacts,
    HeadFacts as HeadFacts,
    QuantizerFacts as QuantizerFacts,
    SamplerFacts as SamplerFacts,
)
from wavslm_core.parts.interfaces import (
    Backbone as Backbone,
    CheckpointFormat as CheckpointFormat,
    CheckpointParts as CheckpointParts,
    Decoder as Decoder,
    Discriminator as Discriminator,
    Draw as Draw,
    Encoder as Encoder,
    Head as Head,
    Judgement as Judgement,
    LayeredEncoder as LayeredEncoder,
    Quantizer as Quantizer,
    QuantizerOutput as QuantizerOutput,
    Sampler as Sampler,
    SamplingContext as SamplingContext,
    State as State,
)
from wavslm_core.parts.lengths import valid_mask as valid_mask, zero_padding as zero_padding
from wavslm_core.parts.metric import (
    Measured as Measured,
    Metric as Metric,
    ReferenceFreeMetric as ReferenceFreeMetric,
    check_pair as check_pair,
    measured as measured,
)
from wavslm_core.parts.packing import (
    LinearGelu as LinearGelu,
    PackLinear as PackLinear,
    pack_module as pack_module,
)
from wavslm_core.parts.plugins import hookimpl as hookimpl, load_registry as load_registry
from wavslm_core.parts.roles import Register as Register
from wavslm_core.parts.streaming import (
    PIECE_FRAMES as PIECE_FRAMES,
    CausalConv1d as CausalConv1d,
    FrameRing as FrameRing,
    Padding as Padding,
    StateReader as StateReader,
    check_whole_chunks as check_whole_chunks,
    join_states as join_states,
    new_position as new_position,
)
from wavslm_core.run.context import StageContext as StageContext
from wavslm_core.stages.base import Stage as Stage, TrainingStage as TrainingStage
from wavslm_core.stages.codec_stage import (
    CodecStage as CodecStage,
    ResynthesisConfig as ResynthesisConfig,
    ResynthesisStage as ResynthesisStage,
)
from wavslm_core.stages.train_codec import TrainCodec as TrainCodec, TrainCodecConfig as TrainCodecConfig
from wavslm_core.stages.train_lm import TrainLm as TrainLm, TrainLmConfig as TrainLmConfig
from wavslm_core.training.adversarial import Adversary as Adversary
from wavslm_core.training.audio_task import AudioBatch as AudioBatch, AudioTask as AudioTask
from wavslm_core.training.codec_task import CodecTask as CodecTask
from wavslm_core.training.config import (
    AdversarialConfig as AdversarialConfig,
    AudioTrainingConfig as AudioTrainingConfig,
    CodecStageConfig as CodecStageConfig,
    CodecTrainingConfig as CodecTrainingConfig,
    OptimizerConfig as OptimizerConfig,
    QuantizerLossConfig as QuantizerLossConfig,
    ScheduleName as ScheduleName,
    SpectralWindows as SpectralWindows,
    TrainingConfig as TrainingConfig,
)
from wavslm_core.training.device import seed_torch as seed_torch
from wavslm_core.training.lm_task import LanguageModelTask as LanguageModelTask
from wavslm_core.training.loop import fit as fit
from wavslm_core.training.losses import MelLoss as MelLoss
from wavslm_core.training.resynthesis_task import (
    Heard as Heard,
    Rebuilt as Rebuilt,
    ResynthesisTask as ResynthesisTask,
)
from wavslm_core.training.state import TrainState as TrainState
from wavslm_core.training.task import LossOutput as LossOutput, Player as Player, Task as Task
from wavslm_core.training.tracking import Tracker as Tracker
