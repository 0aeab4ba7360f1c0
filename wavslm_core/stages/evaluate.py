"""Stage `evaluate`: what is the codec worth, what is the language model worth, and next to which marks."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from wavslm_core.evaluation.config import (
    ChunkAheadConfig,
    ContinuationsConfig,
    MetricChoice,
    MetricChoices,
    metric_configs,
    splits_asked_for,
)
from wavslm_core.parts.configs import RecipeView, Role, StageConfig, modules_of
from wavslm_core.parts.facts import chunk_ahead_problem
from wavslm_core.parts.roles import CODEC_ROLES
from wavslm_core.run.context import StageContext
from wavslm_core.stages.base import (
    TRAIN_CODEC,
    TRAIN_LM,
    Stage,
    read_results,
    speech_lm_plan,
    streamed_roles,
    tokenize_first,
)
from wavslm_core.stages.train_codec import TrainCodecConfig

if TYPE_CHECKING:
    from wavslm_core.data.corpora import Split
    from wavslm_core.data.token_store import TokenStore
    from wavslm_core.evaluation.agreement import Disagreement
    from wavslm_core.model.codec import Codec
    from wavslm_core.model.speech_lm import SpeechLM

logger = logging.getLogger(__name__)


class EvaluateConfig(StageConfig):
    """Score reconstruction with audio metrics, and the language model in bits per token beside n-grams."""

    needs: ClassVar[tuple[Role, ...]] = CODEC_ROLES

    run: Literal["evaluate"] = "evaluate"
    split: str = "valid"
    """Split to score on."""
    metrics: MetricChoices = ("mel_distance", "stoi")
    """Metrics of reconstruction: names, or `{name: …, option: …}`."""
    utterances: int | None = Field(default=64, gt=0)
    """Utterances to reconstruct, spread evenly over the split; null: all. The language model scores all."""
    baseline_tokens: int = Field(default=20_000_000, ge=0)
    """Training tokens on which n-grams are counted, to be scored beside the language model; 0: no n-grams."""
    speech_lm: str | None = None
    """Folder, registered name or hub id of a language model to score instead of the run's own."""
    continuations: ContinuationsConfig | None = None
    """Judge what the language model says after prompts: `{count: 16, metrics: [dnsmos]}`."""
    chunk_ahead: ChunkAheadConfig | None = None
    """Judge the language model one chunk ahead of the truth: `{count: 16, metrics: [word_error]}`."""
    batch_seconds: float = Field(default=60.0, gt=0)
    """Audio in one padded batch."""
    batch_tokens: int = Field(default=4096, gt=0)
    """Tokens in one padded batch of the language model."""

    def needed_splits(self) -> tuple[str, ...]:
        return (self.split, *(split for metrics in self._metrics() for split in splits_asked_for(metrics)))

    def needs_modules(self) -> dict[str, str]:
        return modules_of(config for metrics in self._metrics() for config in metric_configs(metrics))

    def _metrics(self) -> list[tuple[MetricChoice, ...]]:
        """Return what each block that is there judges with."""
        blocks = (self, self.continuations, self.chunk_ahead)
        return [block.metrics for block in blocks if block is not None]

    def reads(self) -> dict[str, str]:
        reads = {"codec": TRAIN_CODEC}
        speaks = self.continuations is not None or self.chunk_ahead is not None
        if speaks and self.speech_lm is None:
            reads["speech_lm"] = TRAIN_LM
        if speaks or self.speech_lm is not None:
            counted = ("train",) if self.baseline_tokens else ()
            reads |= tokenize_first(*dict.fromkeys((*counted, self.split)))
        return reads

    def leaves(self) -> tuple[str, ...]:
        return ()

    def needs_streaming(self, recipe: RecipeView) -> tuple[Role, ...]:
        return () if self.continuations is None else streamed_roles(recipe)

    def problems(self, recipe: RecipeView) -> Iterator[str]:
        from wavslm_core.recipe.checkpoints import speech_lm_problems

        yield from speech_lm_problems(self.speech_lm, recipe)
        # A model from elsewhere brings a head and a sampler of its own.
        if self.chunk_ahead is None or self.speech_lm is not None:
            return
        head, sampler = recipe.facts.get("head"), recipe.facts.get("sampler")
        if head is not None and sampler is not None:
            problem = chunk_ahead_problem(head, sampler, recipe.codec_facts().quantizer)
            if problem:
                yield f"chunk_ahead: {problem}"


class Evaluate(Stage[EvaluateConfig]):
    """Leaves `results/evaluate.json` with a `codec` and, once there is one, a `language_model` part."""

    def run(self, context: StageContext) -> None:
        from wavslm_core.evaluation.language_scores import language_scores, stage_speech_lm, token_stores

        started = time.monotonic()
        metrics, spoken, ahead = self._metrics(context)
        codec = context.codec().requires_grad_(False)
        stores = token_stores(context, codec, *dict.fromkeys(("train", self.config.split)))
        results: dict[str, Any] = {
            "split": self.config.split,
            "codec": self._codec_scores(context, codec, stores, metrics),
        }
        if self.config.speech_lm is not None or context.found("speech_lm") is not None:
            speech_lm = stage_speech_lm(context, self.config.speech_lm, codec=codec)
            results |= self._speech_scores(context, speech_lm, spoken, ahead)
            results["language_model"] = language_scores(
                speech_lm,
                context,
                stores,
                split=self.config.split,
                baseline_tokens=self.config.baseline_tokens,
                batch_tokens=self.config.batch_tokens,
            )
        if self.config.speech_lm is not None:
            results["speech_lm"] = self.config.speech_lm
        results["disagreements"] = [found.to_dict() for found in self._disagreements(context, results)]
        for found in results["disagreements"]:
            logger.warning("%s", found["text"])
        results["seconds"] = time.monotonic() - started
        self.write_results(context, results)

    def _disagreements(self, context: StageContext, results: dict[str, Any]) -> list[Disagreement]:
        """Compare with what the stages said that trained what is scored here."""
        from wavslm_core.evaluation.agreement import find_disagreements

        if self.config.split != "valid" or context.rank > 0:
            return []
        scores = {"train_codec": results["codec"]["metrics"]}
        if self.config.speech_lm is None and "language_model" in results:
            language = results["language_model"]
            bits, interval, count = (language[key] for key in ("bits_per_token", "interval", "utterances"))
            scores["train_lm"] = {"bits_per_token": {"mean": bits, "interval": interval, "count": count}}
        own = metric_configs(self.config.metrics)
        found: dict[str, list[Disagreement]] = {}
        for name, config in context.recipe.named_stages():
            if name == self.name_in(context):
                break
            run = config.registered_name()
            if run not in scores:
                continue
            compared = scores[run]
            if isinstance(config, TrainCodecConfig):
                # Under one name, other options give other numbers.
                same = [m.registered_name() for m in metric_configs(config.metrics) if m in own]
                compared = {metric: score for metric, score in compared.items() if metric in same}
            # Of several that trained the same, the last one left what is scored.
            found[run] = find_disagreements(name, read_results(context.run_dir, name), compared)
        return [disagreement for several in found.values() for disagreement in several]

    def left_results(self, context: StageContext) -> bool:
        return self.results_file(context).exists()

    def _metrics(self, context: StageContext) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Build every metric first, so that a missing package shows before any work is done.

        Returns those of reconstruction, of continuations, and of one chunk ahead.
        """

        def build(block: EvaluateConfig | ContinuationsConfig | ChunkAheadConfig | None) -> dict[str, Any]:
            return {} if block is None else context.metrics(metric_configs(block.metrics))

        return build(self.config), build(self.config.continuations), build(self.config.chunk_ahead)

    def _speech_scores(
        self, context: StageContext, speech_lm: SpeechLM, spoken: dict[str, Any], ahead: dict[str, Any]
    ) -> dict[str, Any]:
        from wavslm_core.evaluation.speaking import score_chunks_ahead, score_continuations

        scores: dict[str, Any] = {}
        split = context.split(self.config.split)
        seed, processes, stop = context.recipe.seed, context.processes, context.stop_requested
        if self.config.continuations is not None:
            block = self.config.continuations
            scores["continuations"] = score_continuations(
                speech_lm,
                split,
                spoken,
                count=block.count,
                prompt_seconds=block.prompt_seconds,
                seconds=block.seconds,
                seed=seed,
                anchors=block.anchors,
                processes=processes,
                stop_requested=stop,
            )
        if self.config.chunk_ahead is not None:
            count = self.config.chunk_ahead.count
            scores["chunk_ahead"] = score_chunks_ahead(
                speech_lm, split, ahead, count=count, seed=seed, processes=processes, stop_requested=stop
            )
        return scores

    def _codec_scores(
        self,
        context: StageContext,
        codec: Codec,
        stores: dict[str, TokenStore],
        metrics: dict[str, Any],
    ) -> dict[str, Any]:
        from wavslm_core.data.batches import spread
        from wavslm_core.evaluation.reconstruction import score_reconstruction
        from wavslm_core.parts.estimates import by_speaker
        from wavslm_core.parts.measurement import heard_documents, score_documents, totals, warn_of_failures

        split = context.split(self.config.split)
        indices = spread(len(split.utterances), self.config.utterances)
        pairs = score_reconstruction(
            codec,
            split,
            indices,
            metrics,
            batch_seconds=self.config.batch_seconds,
            processes=context.processes,
            stop_requested=context.stop_requested,
        )
        utterances = [split.utterances[index] for index in indices]
        ids = [utterance.id for utterance in utterances]
        found, originals = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        if context.rank == 0:
            warn_of_failures(metrics, ids, found)
        scores = score_documents(metrics, ids, found, originals)
        for name, document in scores.items():
            estimates = by_speaker([u.speaker for u in utterances], *totals(found, name))
            document["by_speaker"] = {speaker: mean.to_dict() for speaker, mean in estimates.items()}
        return {
            "utterances": len(indices),
            "seconds": sum(utterance.seconds for utterance in utterances),
            "token_rate_hz": codec.facts.token_rate_hz,
            "vocab_size": codec.facts.quantizer.vocab_size,
            "sample_rate_out_hz": codec.sample_rate_out,
            "latency_ms": codec.facts.latency_ms,
            "metrics": scores,
            "heard": heard_documents(ids, [utterance.text for utterance in utterances], pairs),
            "codebook": self._codebook(context, codec, stores, split, indices),
        }

    def _codebook(
        self,
        context: StageContext,
        codec: Codec,
        stores: dict[str, TokenStore],
        split: Split,
        indices: list[int],
    ) -> dict[str, Any]:
        """Count codes in the token stores; without any, in the utterances that were reconstructed."""
        from wavslm_core.data.codebook import codebook_use, count_codes
        from wavslm_core.evaluation.reconstruction import encode_utterances

        found = {name: codebook_use(store.counts()).to_dict() for name, store in stores.items()}
        if self.config.split not in found:
            tokens = encode_utterances(
                codec,
                split,
                indices,
                batch_seconds=self.config.batch_seconds,
                processes=context.processes,
                stop_requested=context.stop_requested,
            )
            counts_V = count_codes(tokens, vocab_size=codec.facts.quantizer.vocab_size)
            found[self.config.split] = codebook_use(counts_V).to_dict()
        return found

    def plan(self, recipe: RecipeView) -> dict[str, Any]:
        names = [config.registered_name() for config in metric_configs(self.config.metrics)]
        plan: dict[str, Any] = {
            "split": self.config.split,
            "utterances": self.config.utterances or "all",
            "metrics": ", ".join(names),
        }
        return plan | speech_lm_plan(self.config.speech_lm, recipe)
