"""The speech language model: codec, backbone, head and sampler put together. Tokens in, tokens out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wavslm_core.data.arguments import (
    Given,
    Seeds,
    checked_count,
    checked_lengths,
    checked_seconds,
    checked_seeds,
    first_floats,
)
from wavslm_core.errors import CheckpointError, NoCodecError
from wavslm_core.model.codec import Codec
from wavslm_core.model.continuation import Generation, by_length
from wavslm_core.model.folders import load_parts, loaded_parts, save_parts
from wavslm_core.model.inference import (
    Way,
    backbone_flows,
    chunk_engine,
    codec_flows,
    fast_copy,
    joined_copy,
    makes_whole_chunks,
    packed,
    situation,
    sizes,
    turn,
    ways,
    worthwhile,
)
from wavslm_core.model.prompts import decode_continuation, encode_prompt
from wavslm_core.model.session import Session, side_by_side
from wavslm_core.model.token_lm import SamplerLike, TokenLM
from wavslm_core.model.weights import load_state
from wavslm_core.parts.configs import PartConfig, Role
from wavslm_core.parts.engines import TORCH
from wavslm_core.parts.facts import BackboneFacts, HeadFacts, codec_problem
from wavslm_core.parts.interfaces import Backbone, CheckpointParts, Head, Sampler
from wavslm_core.parts.packing import device_type, refuse_packed
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.promises import check_vocabulary
from wavslm_core.parts.roles import LANGUAGE_ROLES

logger = logging.getLogger(__name__)


class SpeechLM(TokenLM):
    """A language model over the tokens of a frozen codec.

    Shapes: B batch, S samples, T tokens, as `Codec.compact` gives them. The codec is used but not owned: its
    weights are neither in `parameters()` nor in the saved folder, but go along to another device. What is
    given is taken as by `Codec`: tensors, arrays and lists, one item without a batch, any type of integer for
    tokens, lengths and seeds. Raises everywhere: AudioError for what is no waveform in [-1, 1]; ArgumentError
    for what is no such tokens, lengths, seeds or counts.
    """

    def __init__(self, codec: Codec, backbone: Backbone[Any], head: Head[Any], sampler: Sampler) -> None:
        super().__init__(codec, backbone, head, sampler)
        self.checkpoint_codec: str | None = None

    @classmethod
    def from_configs(cls, codec: Codec, configs: Mapping[Role, PartConfig]) -> SpeechLM:
        """Build a language model with random weights from resolved configs of its three roles."""
        registry = load_registry()
        return cls(codec, *(registry.build(configs[role]) for role in LANGUAGE_ROLES))

    @classmethod
    def load(
        cls,
        reference: str | Path,
        *,
        codec: Codec | None = None,
        device: torch.device | str | None = None,
    ) -> SpeechLM:
        """Load a language model by folder, registered name or hub id, in our format or another one.

        `codec` defaults to the one that the folder names. Raises: CheckpointError, PluginError.
        """
        parts = load_parts(reference, kind="speech_lm")
        if codec is None:
            if parts.codec is None:
                raise NoCodecError(f"{reference} names no codec")
            try:
                codec = Codec.load(parts.codec, device=device)
            except CheckpointError as error:
                raise NoCodecError(f"the codec that {reference} names cannot be loaded: {error}") from error
        _refuse_other_codec(codec, parts, source=str(reference))
        backbone, head = loaded_parts(parts, ("backbone", "head"), source=str(reference))
        model = cls(codec, backbone, head, load_registry().build(parts.configs["sampler"]))
        model.checkpoint_codec = parts.codec
        return model.to(device or first_floats(codec).device).eval()

    def start_from(self, reference: str | Path, *, roles: Sequence[Role] = LANGUAGE_ROLES[:2]) -> None:
        """Take over the weights of backbone and head, or of one of them, from what `load` takes.

        One that was trained on the tokens of another codec is a start as well: that is only warned about.
        Raises: CheckpointError when it cannot be read or its weights do not fit.
        """
        parts = load_parts(reference, kind="speech_lm")
        _warn_of_other_codec(self.codec.changed_since(parts.codec_fingerprint), source=str(reference))
        for role in roles:
            load_state(getattr(self, role), parts.states[role], source=f"the {role} in {reference}")

    def save(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> str:
        """Save to a folder, in the official format where the parts are the official ones; all or nothing.

        Samplers have no weights and decide nothing: one that the official format has no place for is kept
        beside it. `dtype` is the type of float to store, as for a codec. Returns which format and why, in
        one line. Raises: CheckpointError when it cannot be written.
        """
        refuse_packed(self.backbone, self.head)
        configs: dict[Role, PartConfig] = {
            "backbone": self.backbone.config,
            "head": self.head.config,
            "sampler": self.sampler.config,
        }
        states: dict[Role, dict[str, Tensor]] = {
            "backbone": self.backbone.state_dict(),
            "head": self.head.state_dict(),
        }
        parts = CheckpointParts(configs, states, self.checkpoint_codec, self.codec.fingerprint())
        return save_parts(Path(folder), parts, kind="speech_lm", dtype=dtype)

    @torch.no_grad()
    def generate(
        self,
        prompt_BT: Given,
        *,
        new_tokens: int,
        sampler: SamplerLike = None,
        seed: Seeds = 0,
        lengths: Given | None = None,
    ) -> Tensor:
        """Continue prompts of whole chunks; return only the new tokens (B, new_tokens) int64.

        Row r draws with seed + r (or its own seed), so it does not depend on the rest of its batch.
        `lengths` counts each prompt's tokens. A sampler with several candidates draws that many
        continuations of each prompt and keeps the likeliest. Raises: ArgumentError, also for prompts that are
        not whole chunks; RecipeError, StreamingError; CheckpointError when the model gives NaN.
        """
        new_tokens = checked_count(new_tokens, "new_tokens")
        prompt_BT, lengths = self._checked_prompts(prompt_BT, lengths)
        generation = Generation(self, self.make_sampler(sampler))
        seeds = checked_seeds(seed, prompt_BT.shape[0])
        new_BT = prompt_BT.new_zeros(prompt_BT.shape[0], new_tokens)
        for rows, prompts in by_length(prompt_BT, lengths):
            new_BT[rows] = generation.tokens(prompts, new_tokens, [seeds[row] for row in rows.tolist()])
        check_vocabulary(self.head, new_BT, vocab_size=self.head_facts.vocab_size)
        return new_BT

    @torch.no_grad()
    def generate_speech(
        self,
        prompt_BT: Given,
        *,
        samples: int,
        sampler: SamplerLike = None,
        seed: Seeds = 0,
        lengths: Given | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Continue prompts by at least `samples` samples of the codec's output, as `generate` does.

        Returns the new tokens (B,T) and how many of them each row needs (B,); where the quantizer merges
        runs, rows differ, and what is padded holds zeros.
        """
        facts = self.codec.facts
        tokens = facts.tokens_for(checked_count(samples, "samples"))
        prompt_BT, lengths = self._checked_prompts(prompt_BT, lengths)
        if not facts.quantizer.variable_rate:
            new_BT = self.generate(prompt_BT, new_tokens=tokens, sampler=sampler, seed=seed, lengths=lengths)
            return new_BT, torch.full(new_BT.shape[:1], tokens, device=new_BT.device)
        generation = Generation(self, self.make_sampler(sampler))
        seeds = checked_seeds(seed, prompt_BT.shape[0])
        rows: list[Tensor] = [prompt_BT[0, :0]] * len(prompt_BT)
        for places, prompts in by_length(prompt_BT, lengths):
            numbers = places.tolist()
            # Plain tokens are frames here.
            drawn = generation.frames(prompts, tokens, [seeds[row] for row in numbers])
            for row, new_T in zip(numbers, drawn, strict=True):
                rows[row] = new_T
        new_BT = pad_sequence(rows, batch_first=True)
        check_vocabulary(self.head, new_BT, vocab_size=self.head_facts.vocab_size)
        return new_BT, torch.tensor([len(row) for row in rows], device=new_BT.device)

    def stream(
        self,
        prompt_BT: Given,
        *,
        sampler: SamplerLike = None,
        seed: Seeds = 0,
        lengths: Given | None = None,
    ) -> Iterator[Tensor]:
        """Speak on after prompts: yield audio (B,S) chunk by chunk until the consumer stops.

        What is yielded, concatenated, equals decoding prompt and continuation together and cutting the
        prompt off. A piece is as long as a chunk of the head (80 ms for 4 tokens at 50 Hz), but a decoder
        that lags knows the end of a chunk only once it has read the next: the first piece is shorter by
        `codec.facts.decoder.delay_samples`. With a delay of 60 ms it is 20 ms, and every later one 80 ms; a
        delay of more than a chunk takes whole pieces away. Where the codec's chunk is longer than the head's,
        pieces are as long as the codec's; where runs are merged, their lengths vary. `lengths` counts each
        prompt's tokens; rows of different lengths run side by side. Raises: ArgumentError, RecipeError,
        StreamingError when a part does not stream or the sampler ranks whole continuations.
        """
        prompt_BT, lengths = self._checked_prompts(prompt_BT, lengths)
        session = self.session(sampler=sampler)
        rows = [session.join(seed=seed) for seed in checked_seeds(seed, len(prompt_BT))]
        for places, prompts in by_length(prompt_BT, lengths):
            session.read(prompts, [rows[place] for place in places.tolist()])
        return side_by_side(session)

    def session(self, *, sampler: SamplerLike = None) -> Session:
        """Start a session: conversations that join and leave, hear recorded speech and speak, in any order.

        `sampler` is that of rows that bring none of their own. Raises: RecipeError; StreamingError when a
        part does not stream or the sampler ranks whole continuations.
        """
        return Session(self, sampler)

    @torch.no_grad()
    def continue_speech(
        self,
        waveform_BS: Given,
        *,
        sample_rate: float,
        seconds: float = 3.0,
        sampler: SamplerLike = None,
        seed: Seeds = 0,
        lengths: Given | None = None,
    ) -> Tensor:
        """Continue speech: (B,S) at `sample_rate` Hz to the new audio alone, at `codec.sample_rate_out`.

        The prompt is cut to whole chunks. Raises: AudioError, also when it is shorter than one chunk;
        ArgumentError, RecipeError, StreamingError.
        """
        prompts, prompt_lengths = self.encode_prompt(waveform_BS, sample_rate=sample_rate, lengths=lengths)
        samples = round(checked_seconds(seconds, "seconds") * self.codec.sample_rate_out)
        new, new_lengths = self.generate_speech(
            prompts, samples=samples, sampler=sampler, seed=seed, lengths=prompt_lengths
        )
        return self.decode_continuation(prompts, new, lengths=prompt_lengths, new_lengths=new_lengths)[
            :, :samples
        ]

    @torch.no_grad()
    def encode_prompt(
        self, waveform_BS: Given, *, sample_rate: float, lengths: Given | None = None
    ) -> tuple[Tensor, Tensor]:
        """Resample and encode prompts; return tokens (B,T) and lengths (B,), both whole chunks.

        Raises: AudioError when a prompt is shorter than one chunk.
        """
        return encode_prompt(
            self.codec, waveform_BS, self.chunk_tokens, sample_rate=sample_rate, lengths=lengths
        )

    @torch.no_grad()
    def decode_continuation(
        self,
        prompt_BT: Given,
        new_BT: Given,
        *,
        lengths: Given | None = None,
        new_lengths: Given | None = None,
    ) -> Tensor:
        """Decode prompt and continuation together and cut the prompt off: (B, `samples_out(new)`).

        `lengths` counts the prompts' tokens, `new_lengths` those of the continuations. Where the quantizer
        merges runs: (B,S), S the most samples of all items, silence where an item is shorter.
        """
        return decode_continuation(self.codec, prompt_BT, new_BT, lengths=lengths, new_lengths=new_lengths)

    def for_inference(
        self, *, weights: str = "fp32", engine: str = TORCH, rows: Sequence[int] = (1,)
    ) -> SpeechLM:
        """Return a copy, its codec's too, for fast steps where it is. Not for training; not for saving.

        `weights`, `engine` and `rows` are those of `Codec.for_inference`, which says more. Raises:
        WavslmError.
        """
        codec, facts, backbone = self.codec, self.codec.facts, self.backbone
        # What is drawn is decoded and read as it comes, if whole chunks of the codec come.
        whole = self.chunk_tokens % facts.chunk_tokens == 0 and not facts.quantizer.variable_rate
        device, place = device_type(codec, self), first_floats(self, codec).device
        allowed = ways(weights, engine, device=device, rows=rows)
        heard = codec_flows(facts, tokens=self.chunk_tokens if whole else None, device=place)
        width = facts.quantizer.output_dim
        read = backbone_flows(self.backbone_facts, width=width, tokens=self.chunk_tokens, device=place)

        def build(way: Way) -> SpeechLM:
            # The step of a part and the whole step are made of the very same weights.
            joined: tuple[Any, Any] = (None, None)
            if way.engine != TORCH:
                joined = joined_copy(codec), joined_copy(backbone)
            made = SpeechLM(
                fast_copy(codec, way, heard, source=joined[0], rows=rows),
                fast_copy(backbone, way, read, source=joined[1], rows=rows),
                packed(self.head, way.weights),
                self.sampler,
            ).eval()
            if makes_whole_chunks(way) and self.streams:
                decoding = joined[0].quantizer if self.reads_features else None
                head = joined_copy(self.head)
                made.chunk_engine = chunk_engine(decoding, joined[1], head, self.sampler, way, rows=rows)
            return made

        def call(model: SpeechLM) -> Callable[[], object]:
            spoken = [flow for flow in heard if "encode" not in flow.part + flow.step]
            said = turn(model.codec, spoken, rows=max(rows))
            thought = turn(model.backbone, read, rows=max(rows))
            return lambda: (said(), thought())

        parts = (codec.encoder, codec.quantizer, codec.decoder, backbone, self.head)
        key = {**sizes(*parts), **situation(device, rows)}
        return worthwhile(allowed, key, build, call)

    def _checked_prompts(self, prompt_BT: Given, lengths: Given | None) -> tuple[Tensor, Tensor | None]:
        """Return prompts and lengths of at least one token. Raises: ArgumentError."""
        prompt_BT, _ = self.checked_tokens(prompt_BT)
        rows, most = prompt_BT.shape
        lengths_B = checked_lengths(lengths, rows=rows, most=most, unit="tokens", device=prompt_BT.device)
        return prompt_BT, lengths_B


def _refuse_other_codec(codec: Codec, parts: CheckpointParts, *, source: str) -> None:
    """Compare a codec with what a language model can read and, if known, with the one it was trained with.

    `source` names the model in messages. Another encoder is only warned about: it may have been trained
    further for the same codes. Raises: CheckpointError.
    """
    backbone = cast(BackboneFacts, parts.configs["backbone"].facts())
    head = cast(HeadFacts, parts.configs["head"].facts())
    problem = codec_problem(codec.facts.quantizer, backbone, head)
    if problem is not None:
        raise CheckpointError(f"{source} {problem}")
    changed = codec.changed_since(parts.codec_fingerprint)
    if any(key.startswith("quantizer") for key in changed):
        raise CheckpointError(
            f"{source} was trained with another codec: {', '.join(changed)} differ. Give the codec that "
            "it was trained with"
        )
    _warn_of_other_codec(changed, source=source)


def _warn_of_other_codec(changed: list[str], *, source: str) -> None:
    if changed:
        logger.warning("%s was trained with a codec whose %s differ", source, ", ".join(changed))
