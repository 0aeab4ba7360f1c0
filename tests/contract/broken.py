"""The table of broken parts: which check has to catch each."""

from __future__ import annotations

from dataclasses import dataclass

from tests.contract import broken_configs as configs, broken_draws as draws, broken_parts as parts
from tests.contract.broken_configs import stating
from wavslm_core.parts.configs import Config
from wavslm_core.testing import fake_configs as good, fakes

ENCODER = good.FakeEncoderConfig(dim=6, hop_samples=40)
QUANTIZER = good.FakeQuantizerConfig(input_dim=6, bits=4)
OFFLINE = stating(ENCODER, causal=False, streams=False)
MERGING = good.FakeQuantizerConfig(input_dim=6, bits=4, max_run=3)
DELAYED = good.FakeDecoderConfig(input_dim=6, hop_samples=40, delay_samples=100)
DECODER = good.FakeDecoderConfig(input_dim=6, hop_samples=40)
BACKBONE = good.FakeBackboneConfig(input_dim=6, vocab_size=16, dim=8)
HEAD = good.FakeHeadConfig(input_dim=6, vocab_size=5, chunk_tokens=3)
SAMPLER = good.FakeSamplerConfig()
DISCRIMINATOR = good.FakeDiscriminatorConfig(channels=4)


@dataclass(frozen=True)
class Broken:
    """A broken part, the check that says so, words of its message, and what else cannot but fail."""

    part: type
    config: Config
    check: str
    says: str
    also: tuple[str, ...] = ()


BROKEN = [
    Broken(
        parts.SeesNextFrame,
        ENCODER,
        "causality",
        "a change from chunk 1 on reaches what is before",
        also=("step_equals_forward", "padding_invariance", "rows_come_and_go"),
    ),
    Broken(
        parts.HearsPadding,
        OFFLINE,
        "padding_invariance",
        "an item of 2600 samples differs when padded to 3840",
    ),
    Broken(
        parts.HearsBatch,
        ENCODER,
        "batch_invariance",
        "item 0 alone differs from the same in a batch",
        also=("padding_invariance", "rows_come_and_go"),
    ),
    Broken(parts.LeavesWeightAlone, ENCODER, "gradients_reach_every_parameter", "no gradient reaches unused"),
    Broken(parts.CannotBePacked, ENCODER, "packed_copy", "'weight'", also=("packed_steps",)),
    Broken(parts.CancelsInBf16, ENCODER, "bf16_autocast", "is off by"),
    Broken(
        parts.CannotBeExported,
        ENCODER,
        "export",
        "torch.export of forward() fails",
        also=("exported_steps", "steps_can_be_recorded"),
    ),
    Broken(
        parts.ReadsItsState,
        ENCODER,
        "exported_steps",
        "torch.export of a step of forward fails",
        also=("steps_can_be_recorded",),
    ),
    Broken(
        parts.ForgetsATensor,
        ENCODER,
        "gpu",
        "inference on a GPU fails: ",
        also=("steps_on_a_gpu", "steps_can_be_recorded"),
    ),
    Broken(
        parts.KeepsItsStateOnCpu,
        BACKBONE,
        "steps_on_a_gpu",
        "the state of forward holds [1, 2, 8] torch.float32 on cpu",
        also=("steps_can_be_recorded",),
    ),
    Broken(parts.CountsOnCpu, BACKBONE, "steps_can_be_recorded", "takes [8] torch.float32 from the CPU"),
    Broken(parts.TakesMemoryOnMeta, ENCODER, "meta_device", "table take memory"),
    Broken(parts.KeepsSecret, ENCODER, "weights_survive_saving", "a part with loaded weights differs"),
    Broken(fakes.FakeEncoder, OFFLINE, "step_equals_forward", "say streams=False, but forward gives a state"),
    Broken(
        fakes.FakeEncoder,
        stating(ENCODER, hop_samples=20),
        "frame_rate",
        "a frame lasts hop_samples = 20 samples",
        also=("causality", "step_gives_whole_chunks"),
    ),
    Broken(
        fakes.FakeEncoder,
        configs.NamelessFieldConfig(dim=6, hop_samples=40),
        "config_schema",
        "fields width have no help text",
    ),
    Broken(
        fakes.FakeEncoder,
        configs.ForgetfulConfig(dim=6, hop_samples=40, width=5),
        "config_round_trip",
        "dumped to Python and validated again",
    ),
    Broken(
        parts.Ignores, DECODER, "causality", "ignores its input", also=("gradients_reach_every_parameter",)
    ),
    Broken(
        fakes.FakeDecoder,
        stating(DELAYED, delay_samples=99),
        "step_gives_whole_chunks",
        "flush() gave [2, 100]",
        also=("step_equals_forward",),
    ),
    Broken(parts.LearnsInInference, QUANTIZER, "inference_is_deterministic", "inference changed count"),
    Broken(
        parts.ReconstructsOtherwise,
        QUANTIZER,
        "forward_is_encode_and_decode",
        "forward gave other features than decode(encode(features))",
    ),
    Broken(
        parts.LosesPadding,
        QUANTIZER,
        "padding_leaves_training_alone",
        "its loss commitment differs when padded",
    ),
    Broken(
        parts.OneToken,
        QUANTIZER,
        "tokens",
        "the same token",
        also=("causality", "forward_is_encode_and_decode"),
    ),
    Broken(
        fakes.FakeQuantizer,
        stating(QUANTIZER, vocab_size=8, code_parts=None),
        "tokens",
        "tokens lie in 0…7, as vocab_size says",
    ),
    Broken(
        fakes.FakeQuantizer,
        stating(QUANTIZER, ids_per_place=2),
        "tokens",
        "at most 2 can stand there, as ids_per_place says",
    ),
    Broken(
        fakes.FakeQuantizer,
        stating(QUANTIZER, code_parts=(2,) * 5),
        "code_parts",
        "16 ids, but code_parts (2, 2, 2, 2, 2)",
    ),
    Broken(
        parts.CountsFromOne,
        MERGING,
        "merging_runs_loses_nothing",
        "encode gave an id that is no multiple of 3",
    ),
    Broken(
        parts.ForgetsDurations,
        MERGING,
        "merging_runs_loses_nothing",
        "tokens for [40, 26, 20] that were merged. The contract: expand undoes compact",
    ),
    Broken(
        parts.HidesDurations,
        MERGING,
        "merged_tokens_are_told_apart",
        "runs of [2, 3] frames decode to the same features",
    ),
    Broken(
        parts.GrowingState,
        BACKBONE,
        "state_is_constant",
        "step 0 of forward made a state of",
        also=("rows_come_and_go", "steps_on_a_gpu"),
    ),
    Broken(parts.GrowingStorage, BACKBONE, "state_is_constant", "grew from 192 to 256 bytes"),
    Broken(
        parts.RemembersInModule,
        BACKBONE,
        "streams_do_not_meet",
        "differs from each by itself",
        also=("rows_come_and_go",),
    ),
    Broken(
        parts.CountsForAll,
        BACKBONE,
        "rows_come_and_go",
        "forward of a row among others that are elsewhere differs from that row by itself",
    ),
    Broken(
        parts.RemembersEverything,
        stating(BACKBONE, window_tokens=3),
        "window",
        "sees beyond its window",
        also=("step_equals_forward", "rows_come_and_go"),
    ),
    Broken(
        parts.SeesBothWays,
        BACKBONE,
        "causality",
        "looks ahead",
        also=("padding_invariance", "step_equals_forward"),
    ),
    Broken(
        draws.Unnormalised,
        HEAD,
        "log_probs_normalise",
        "the probabilities of all tokens at place 0 of a chunk sum to 0.9048",
        also=("joint_log_probs_normalise",),
    ),
    Broken(
        draws.ScoresWithOwnChunk,
        HEAD,
        "causality",
        "hidden states from place 3 on change the chunk there",
        also=("proposals_have_the_scored_frequencies",),
    ),
    Broken(
        draws.ScoresWithNextToken,
        HEAD,
        "causality",
        "other tokens from place 6 on change what is before",
        also=(
            "joint_log_probs_normalise",
            "log_probs_normalise",
            "padding_invariance",
            "proposals_have_the_scored_frequencies",
        ),
    ),
    Broken(draws.ScoresFirstChunk, HEAD, "shapes", "has NaN at []; []", also=("padding_invariance",)),
    Broken(
        draws.ScoresPadding, HEAD, "padding_invariance", "NaN stands for the first chunk and padded places"
    ),
    Broken(draws.ProposesWarmer, HEAD, "proposals_have_the_scored_frequencies", "frequencies of token 0"),
    Broken(draws.ProposesCopies, HEAD, "proposals_have_the_scored_frequencies", "frequencies of token"),
    Broken(draws.DrawsByItself, HEAD, "proposals", "gave two chunks for the same random numbers"),
    Broken(fakes.FakeHead, stating(HEAD, draws="symbols"), "proposals", "propose drew tokens"),
    Broken(draws.ProposesOnCpu, HEAD, "proposals_on_a_gpu", "propose gave a tensor on cpu"),
    Broken(draws.KeepsTableOnCpu, SAMPLER, "gpu", "adjusting logits on a GPU fails"),
    Broken(draws.WatchesBatch, SAMPLER, "rows_are_independent", "change with their batch"),
    Broken(
        draws.WritesInput,
        SAMPLER,
        "result",
        "adjust wrote into random logits",
        also=("frequencies", "older_tokens_do_not_matter", "rows_are_independent"),
    ),
    Broken(draws.DropsAll, SAMPLER, "result", "equal logits lost every token", also=("frequencies",)),
    Broken(draws.BringsBack, SAMPLER, "result", "dropped before came back"),
    Broken(
        draws.HasChance,
        SAMPLER,
        "adjust_is_a_function",
        "no state and no chance of its own",
        also=("frequencies", "older_tokens_do_not_matter", "rows_are_independent"),
    ),
    Broken(draws.SecretlyGreedy, SAMPLER, "greedy_fact", "do not say greedy"),
    Broken(parts.NeedsLong, DISCRIMINATOR, "judgements", "judging 1 samples fails"),
    Broken(parts.JudgesBatch, DISCRIMINATOR, "rows_are_independent", "scores 0 of a waveform alone differs"),
    Broken(parts.TellsNothing, DISCRIMINATOR, "gradients_reach_the_waveform", "goes from scores 0"),
    Broken(fakes.FakeSampler, stating(SAMPLER, greedy=True), "greedy_fact", "say greedy, but up to 24"),
    Broken(fakes.FakeSampler, stating(SAMPLER, history_tokens=5), "history_fact", "ask for 5 tokens"),
]
