"""Stage `tokenize`: encode every split with the codec, once, into token stores that training reads.

Utterances are encoded in padded batches of similar length; padding never changes a token. Only whole chunks
are kept, so that a window which starts at a multiple of the chunk is in phase with how its audio was coded.
What is stored is what a language model reads: of a quantizer that merges repeated tokens, merged ones.
Shards are finished one at a time: after an interruption only the one under way is done again. Processes share
the shards that are missing; the tasks of a job array, which do not know of each other, have
a fixed part of all shards each, and leave it to the next job to do what still is missing and to finish.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from wavslm_core.data.corpora import Rejected, Split
from wavslm_core.errors import AudioError
from wavslm_core.machine.processes import Interrupted, divide
from wavslm_core.parts.configs import RecipeView, Role, StageConfig
from wavslm_core.parts.roles import CODEC_ROLES
from wavslm_core.run.context import StageContext
from wavslm_core.stages.base import TRAIN_CODEC, Stage

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from wavslm_core.data.token_store import TokenStore
    from wavslm_core.data.token_writer import ShardRecord
    from wavslm_core.model.codec import Codec

    Loaded = Tensor | Rejected


class TokenizeConfig(StageConfig):
    """Encode the splits into token stores."""

    needs: ClassVar[tuple[Role, ...]] = CODEC_ROLES
    divides: ClassVar[bool] = True

    run: Literal["tokenize"] = "tokenize"
    splits: tuple[str, ...] = Field(default=("train", "valid"), min_length=1)
    """Splits to encode."""
    batch_seconds: float = Field(default=120.0, gt=0)
    """Audio encoded at once, padding included; a longer utterance is encoded alone."""
    shard_minutes: float = Field(default=30.0, gt=0)
    """Audio per shard: what an interruption costs at most. Take a day or so for thousands of hours."""

    def needed_splits(self) -> tuple[str, ...]:
        return self.splits

    def reads(self) -> dict[str, str]:
        return {"codec": TRAIN_CODEC}

    def leaves(self) -> tuple[str, ...]:
        return tuple(f"tokens/{split}" for split in self.splits)


class Tokenize(Stage[TokenizeConfig]):
    """See `TokenizeConfig`."""

    def run(self, context: StageContext) -> None:
        codec = context.codec().requires_grad_(False)
        results = {name: self._split(context, codec, context.split(name)) for name in self.config.splits}
        if not context.share.partial:
            self.write_results(context, {"splits": results})

    def _split(self, context: StageContext, codec: Codec, split: Split) -> dict[str, Any]:
        """Encode what is missing of a split; return what the report shows of it, in rank 0."""
        from wavslm_core.data.token_store import token_fingerprint
        from wavslm_core.data.token_writer import TokenWriter, plan_digest, plan_shards
        from wavslm_core.machine.progress import progress_bar

        shards = plan_shards(split.utterances, shard_minutes=self.config.shard_minutes)
        writer = TokenWriter(
            context.place(f"tokens/{split.name}"),
            fingerprint=token_fingerprint(codec.fingerprint(), split.corpus.fingerprint(split.name)),
            plan=plan_digest(split.utterances, shards),
            shards=len(shards),
            vocab_size=codec.facts.quantizer.vocab_size,
            token_rate_hz=None if codec.facts.quantizer.variable_rate else codec.facts.token_rate_hz,
            align=codec.facts.unit_tokens,
        )
        # What rank 0 sees counts: others may begin to write before the last has looked.
        mine = context.share.pieces(len(shards))
        missing = context.processes.broadcast([number for number in writer.missing() if number in mine])
        seconds = sum(float(split.durations_s[list(shards[number])].sum()) for number in missing)
        total = seconds / context.world_size
        with progress_bar(f"Tokenising {split.name}", total=total, unit="s audio") as advance:

            def encode(number: int) -> None:
                tokens, record = self._shard(context, codec, split, shards[number], advance)
                writer.write(number, tokens, record)

            divide(context.processes, missing, encode, stop_requested=context.stop_requested)
        if context.share.partial or context.rank > 0:
            return {}
        store = writer.finish(also_rejected=split.corpus.rejected(split.name))
        return _summary(store)

    def _shard(
        self,
        context: StageContext,
        codec: Codec,
        split: Split,
        members: range,
        advance: Callable[[float], None],
    ) -> tuple[list[npt.NDArray[np.int64]], ShardRecord]:
        """Encode one shard; tokens come back in the order of the corpus."""
        from wavslm_core.data.token_writer import ShardRecord

        started = time.monotonic()
        tokens: dict[int, npt.NDArray[np.int64]] = {}
        rejected: dict[int, Rejected] = {}
        batches = _batches(split, members, batch_seconds=self.config.batch_seconds)
        for batch, waveforms in _loaded(codec, split, batches):
            if context.processes.heard(context.stop_requested()):
                raise Interrupted(f"stopped while tokenising {split.name}; finished shards are kept")
            usable = [
                (index, item)
                for index, item in zip(batch, waveforms, strict=True)
                if not isinstance(item, Rejected)
            ]
            rejected |= {
                index: item
                for index, item in zip(batch, waveforms, strict=True)
                if isinstance(item, Rejected)
            }
            if usable:
                encoded = _encode(codec, [waveform for _, waveform in usable])
                tokens |= dict(zip((index for index, _ in usable), encoded, strict=True))
            advance(float(split.durations_s[batch].sum()))
        order = sorted(tokens)
        record = ShardRecord(
            ids=[split.utterances[index].id for index in order],
            lengths=[len(tokens[index]) for index in order],
            rejected=[rejected[index] for index in sorted(rejected)],
            audio_seconds=float(split.durations_s[order].sum()),
            work_seconds=time.monotonic() - started,
        )
        return [tokens[index] for index in order], record

    def plan(self, recipe: RecipeView) -> dict[str, Any]:
        from wavslm_core.data.token_store import token_dtype

        facts = recipe.codec_facts()
        bytes_per_token = token_dtype(facts.quantizer.vocab_size).itemsize
        most = " at most" if facts.quantizer.variable_rate else ""
        plan: dict[str, Any] = {
            f"tokens per second{most}": facts.token_rate_hz,
            "bytes per token": bytes_per_token,
        }
        for split in self.config.splits:
            corpus = recipe.data.corpus_for(split) if recipe.data is not None else None
            seconds = corpus.expected_seconds(split) if corpus is not None else None
            if seconds is not None:
                tokens = round(seconds * facts.token_rate_hz)
                plan |= {f"{split} tokens{most}": tokens, f"{split} bytes{most}": tokens * bytes_per_token}
            else:
                plan[f"{split} tokens"] = "known once the corpus is scanned"
        return plan


def _batches(split: Split, members: range, *, batch_seconds: float) -> list[list[int]]:
    """Group utterances of similar length so that each padded batch stays within the budget."""
    batches: list[list[int]] = []
    durations_s = split.durations_s
    for index in sorted(members, key=lambda index: float(durations_s[index])):
        # In ascending order the newest is the longest: it sets the padded length.
        padded = float(durations_s[index]) * (len(batches[-1]) + 1) if batches else 0.0
        if batches and padded <= batch_seconds:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def _loaded(codec: Codec, split: Split, batches: list[list[int]]) -> Iterator[tuple[list[int], list[Loaded]]]:
    """Yield each batch with its waveforms, reading the next one while the caller encodes."""
    from wavslm_core.data.audio import load_torchaudio
    from wavslm_core.data.prefetch import Prefetch

    # Imported here once: readers run in a thread of their own.
    load_torchaudio()

    def read(number: int) -> list[Loaded]:
        return [_load(codec, split, index) for index in batches[number]]

    with closing(Prefetch(read, ahead=1, end=len(batches))) as reader:
        for number, batch in enumerate(batches):
            yield batch, reader.get(number)


def _load(codec: Codec, split: Split, index: int) -> Loaded:
    """Return a waveform (S,), or why it is left out."""
    import torch

    utterance_id = split.utterances[index].id
    try:
        waveform_S = split.load(index, sample_rate_hz=codec.sample_rate_in)
    except AudioError as error:
        return Rejected(utterance_id, str(error))
    if not bool(torch.isfinite(waveform_S).all()):
        return Rejected(utterance_id, "holds NaN or infinite samples")
    tokens = int(codec.token_lengths(torch.tensor([len(waveform_S)]))[0]) if len(waveform_S) else 0
    if tokens < codec.facts.chunk_tokens:
        seconds = len(waveform_S) / codec.sample_rate_in
        return Rejected(
            utterance_id,
            f"is too short: {seconds:.3f} s give {tokens} tokens, a chunk has {codec.facts.chunk_tokens}",
        )
    return waveform_S


def _encode(codec: Codec, waveforms: Sequence[Tensor]) -> list[npt.NDArray[np.int64]]:
    """Return the tokens of each waveform, whole chunks only, as a language model reads them."""
    import torch

    lengths = [len(waveform) for waveform in waveforms]
    waveform_BS = torch.nn.utils.rnn.pad_sequence(list(waveforms), batch_first=True)
    with torch.inference_mode():
        tokens_BT, counts = codec.tokens(waveform_BS, lengths=lengths, multiple_of=codec.facts.chunk_tokens)
    rows = zip(tokens_BT.cpu().numpy(), counts.tolist(), strict=True)
    return [tokens_T[:count] for tokens_T, count in rows]


def _summary(store: TokenStore) -> dict[str, Any]:
    """Return what the report shows of a split."""
    import numpy as np

    counts = store.counts()
    probabilities = counts[counts > 0] / max(1, counts.sum())
    work_seconds = store.document.work_seconds
    return {
        "utterances": len(store),
        "rejected": store.document.rejected,
        "hours": store.seconds / 3600,
        "tokens": store.total_tokens,
        "tokens_per_second": store.token_rate_hz,
        "vocab_size": store.vocab_size,
        "codes_used": int((counts > 0).sum()),
        "codebook_usage": float((counts > 0).mean()),
        "entropy_bits": float(-(probabilities * np.log2(probabilities)).sum()),
        "work_seconds": work_seconds,
        "times_real_time": store.seconds / work_seconds if work_seconds > 0 else None,
    }
