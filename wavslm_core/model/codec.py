"""The codec: encoder, quantizer and decoder put together. Waveform to one stream of tokens and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from wavslm_core.data.arguments import (
    Given,
    checked_count,
    checked_counts,
    checked_lengths,
    checked_tokens,
    checked_waveform,
    first_floats,
)
from wavslm_core.errors import RecipeError
from wavslm_core.model.codec_stream import CodecStream
from wavslm_core.model.folders import load_parts, loaded_parts, save_parts
from wavslm_core.model.inference import codec_flows, fast_copy, situation, sizes, turn, ways, worthwhile
from wavslm_core.model.weights import WeightVersions, weights_digest
from wavslm_core.parts.blocks import config_from_dict
from wavslm_core.parts.configs import PartConfig, Role
from wavslm_core.parts.engines import TORCH
from wavslm_core.parts.facts import CodecFacts, DecoderFacts, EncoderFacts, QuantizerFacts
from wavslm_core.parts.interfaces import CheckpointParts, Decoder, Encoder, Quantizer
from wavslm_core.parts.lengths import valid_mask
from wavslm_core.parts.packing import device_type, refuse_packed
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.promises import check_samples, check_vocabulary, check_width
from wavslm_core.parts.roles import CODEC_ROLES


class Codec(nn.Module):
    """Encoder, quantizer and decoder. Frozen use is under `torch.no_grad`; training calls the parts.

    Shapes: B batch, S samples, T tokens, D width. `lengths` counts valid samples (`encode`,
    `reconstruct`) or tokens (`dequantize`, `decode`) of each item; padding never changes a valid result.
    Tensors, arrays and lists are taken, waveforms of any float type and tokens of any integer type; one item
    without a batch, (S,) or (T,), is a batch of one. Raises everywhere: AudioError for what is no waveform
    in [-1, 1]; ArgumentError for what is no such tokens or lengths.
    """

    def __init__(self, encoder: Encoder[Any], quantizer: Quantizer[Any], decoder: Decoder[Any]) -> None:
        super().__init__()
        self.encoder = encoder
        self.quantizer = quantizer
        self.decoder = decoder
        self.facts = CodecFacts(
            encoder=cast(EncoderFacts, encoder.config.facts()),
            quantizer=cast(QuantizerFacts, quantizer.config.facts()),
            decoder=cast(DecoderFacts, decoder.config.facts()),
        )

    @classmethod
    def from_configs(cls, configs: Mapping[Role, PartConfig]) -> Codec:
        """Build a codec with random weights from resolved configs of its three roles."""
        registry = load_registry()
        return cls(*(registry.build(configs[role]) for role in CODEC_ROLES))

    @classmethod
    def load(cls, reference: str | Path, *, device: torch.device | str | None = None) -> Codec:
        """Load a codec from a folder, a registered name or a hub id, in our format or another registered one.

        Raises: CheckpointError, PluginError.
        """
        parts = load_parts(reference, kind="codec")
        codec = cls(*loaded_parts(parts, CODEC_ROLES, source=str(reference)))
        return codec.to(device or "cpu").eval()

    def save(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> str:
        """Save to a folder, in the official format where the parts are the official ones; all or nothing.

        `dtype`: the type of float that is stored, such as `torch.float16` to halve the file; loading gives
        float32 again, less what rounding lost: another codec to `fingerprint`. Returns which format and why,
        in one line. Raises: CheckpointError when it cannot be written.
        """
        modules = {role: getattr(self, role) for role in CODEC_ROLES}
        refuse_packed(*modules.values())
        return save_parts(
            Path(folder),
            CheckpointParts(
                configs={role: module.config for role, module in modules.items()},
                states={role: module.state_dict() for role, module in modules.items()},
            ),
            kind="codec",
            dtype=dtype,
        )

    @property
    def configs(self) -> dict[Role, PartConfig]:
        return {role: getattr(self, role).config for role in CODEC_ROLES}

    @property
    def sample_rate_in(self) -> int:
        """Hz of the waveforms that `encode` takes."""
        return self.facts.sample_rate_in_hz

    @property
    def sample_rate_out(self) -> int:
        """Hz of the waveforms that `decode` gives."""
        return self.facts.sample_rate_out_hz

    def fingerprint(self) -> dict[str, Any]:
        """Return JSON values that tell this codec's tokens from another's.

        The weights of a frozen codec, none of which requires a gradient, are read once, and again when one
        was written or replaced.
        """
        if any(parameter.requires_grad for parameter in self.parameters()):
            return self._fingerprint()
        known = _FINGERPRINTS.get(self)
        if known is None or not known[0].hold(self.encoder, self.quantizer):
            versions = WeightVersions(self.encoder, self.quantizer)
            known = _FINGERPRINTS[self] = versions, self._fingerprint()
        return dict(known[1])

    def changed_since(self, fingerprint: Mapping[str, Any] | None) -> list[str]:
        """Return what of this codec differs from a fingerprint; nothing where there is none.

        An option that a part has had only since the fingerprint was taken was its default.
        """
        if not fingerprint:
            return []
        return [
            key
            for key, value in self.fingerprint().items()
            if fingerprint.get(key, value) != value and _completed(key, fingerprint[key]) != value
        ]

    def _fingerprint(self) -> dict[str, Any]:
        return {
            "encoder": self.encoder.config.model_dump(mode="json"),
            "quantizer": self.quantizer.config.model_dump(mode="json"),
            "encoder_weights": weights_digest(self.encoder),
            "quantizer_weights": weights_digest(self.quantizer),
            "sample_rate_hz": self.sample_rate_in,
            "vocab_size": self.facts.quantizer.vocab_size,
        }

    def token_lengths(self, sample_lengths: Given) -> Tensor:
        """Return how many tokens `encode` gives for that many samples (any shape, int64)."""
        sample_lengths = checked_counts(sample_lengths, unit="samples")
        return self.quantizer.token_lengths(self.encoder.frame_lengths(sample_lengths))

    @torch.no_grad()
    def encode(self, waveform_BS: Given, *, lengths: Given | None = None) -> Tensor:
        """Map a waveform at `sample_rate_in` to tokens (B,T) int64; padded places hold 0.

        Raises: PluginError when encoder or quantizer give something else than their facts say.
        """
        return self._encode(*self._checked_waveform(waveform_BS, lengths))

    def _encode(self, waveform_BS: Tensor, lengths: Tensor | None) -> Tensor:
        features_BTD = self.encoder(waveform_BS, lengths=lengths)
        check_width(self.encoder, features_BTD, output_dim=self.facts.encoder.output_dim)
        frame_lengths = None if lengths is None else self.encoder.frame_lengths(lengths)
        tokens_BT: Tensor = self.quantizer.encode(features_BTD, lengths=frame_lengths)
        if frame_lengths is not None:
            token_lengths = self.quantizer.token_lengths(frame_lengths)
            tokens_BT = tokens_BT.masked_fill(~valid_mask(token_lengths, tokens_BT.shape[1]), 0)
        check_vocabulary(self.quantizer, tokens_BT, vocab_size=self.facts.quantizer.vocab_size)
        return tokens_BT

    @torch.no_grad()
    def tokens(
        self, waveform_BS: Given, *, lengths: Given | None = None, multiple_of: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Return what a language model reads of waveforms: tokens (B,T) int64, and how many each has (B,).

        The tokens of `encode`, cut to a multiple of `multiple_of` (`facts.chunk_tokens`: whole chunks alone),
        and with their runs merged where the quantizer merges. What is too short for a token has none.
        """
        waveform_BS, samples_B = self._checked_waveform(waveform_BS, lengths)
        rows, most = waveform_BS.shape
        full_B = torch.full((rows,), most, device=waveform_BS.device)
        counts_B = self.token_lengths(full_B if samples_B is None else samples_B) // multiple_of * multiple_of
        size = int(counts_B.max())
        if size == 0:
            return counts_B.new_zeros(rows, 0), counts_B
        tokens_BT = self._encode(waveform_BS, samples_B)[:, :size]
        return self.quantizer.compact(tokens_BT, lengths=counts_B)

    def compact(self, tokens_BT: Given, *, lengths: Given | None = None) -> tuple[Tensor, Tensor]:
        """Return what a language model reads of tokens, (B,U), and how many of them each item has (B,).

        The same tokens, unless the quantizer merges runs.
        """
        tokens_BT, lengths = self.checked_tokens(tokens_BT, lengths)
        return self.quantizer.compact(tokens_BT, lengths=lengths)

    def expand(self, tokens_BU: Given, *, lengths: Given | None = None) -> tuple[Tensor, Tensor]:
        """Undo `compact`: tokens as `encode` gives them, (B,T), and how many of them each item has (B,)."""
        tokens_BU, lengths = self.checked_tokens(tokens_BU, lengths)
        return self.quantizer.expand(tokens_BU, lengths=lengths)

    def decoded_samples(self, tokens_BT: Given, *, lengths: Given | None = None) -> Tensor:
        """Return how many samples `decode` gives for each item, (B,) int64."""
        return self.facts.samples_out(self.expand(tokens_BT, lengths=lengths)[1])

    @torch.no_grad()
    def dequantize(self, tokens_BT: Given, *, lengths: Given | None = None) -> Tensor:
        """Map tokens to the features (B,F,D) that a decoder and a language model read.

        F = `facts.frames(T)`, whole frames; none of no tokens.
        """
        return self.features(*self.checked_tokens(tokens_BT, lengths))

    @torch.no_grad()
    def features(self, tokens_BT: Tensor, lengths: Tensor | None) -> Tensor:
        """Do what `dequantize` does for what `checked_tokens` gave: looking at values again costs time."""
        if tokens_BT.shape[1] == 0:
            return first_floats(self.quantizer, self).new_zeros(
                *tokens_BT.shape, self.facts.quantizer.output_dim
            )
        features_BTD = self.quantizer.decode(tokens_BT, lengths=lengths)
        check_width(self.quantizer, features_BTD, output_dim=self.facts.quantizer.output_dim)
        return features_BTD

    @torch.no_grad()
    def decode(self, tokens_BT: Given, *, lengths: Given | None = None) -> Tensor:
        """Map tokens, merged or not, to a waveform (B,S') at `sample_rate_out`.

        S' = `facts.samples_out(T)`, none of no tokens; of merged tokens, the most of `decoded_samples`.
        """
        tokens_BT, lengths = self.checked_tokens(tokens_BT, lengths)
        if self.facts.quantizer.variable_rate:
            tokens_BT, lengths = self.quantizer.expand(tokens_BT, lengths=lengths)
        features_BTD = self.features(tokens_BT, lengths)
        if features_BTD.shape[1] == 0:
            return features_BTD.flatten(1)
        frames = None if lengths is None else self.facts.frames(lengths)
        waveform_BS: Tensor = self.decoder(features_BTD, lengths=frames)
        samples = features_BTD.shape[1] * self.facts.decoder.hop_samples
        check_samples(self.decoder, waveform_BS, samples=samples)
        return waveform_BS

    @torch.no_grad()
    def reconstruct(self, waveform_BS: Given, *, lengths: Given | None = None) -> Tensor:
        """Encode and decode: (B,S) at `sample_rate_in` to (B, ⌊S · out/in⌋) at `sample_rate_out`.

        Cut, or continued by repeating the last sample, to the input's duration.
        """
        waveform_BS, lengths = self._checked_waveform(waveform_BS, lengths)
        tokens_BT = self._encode(waveform_BS, lengths)
        token_lengths = None if lengths is None else self.token_lengths(lengths)
        decoded_BS = self.decode(tokens_BT, lengths=token_lengths)
        size = waveform_BS.shape[1] * self.sample_rate_out // self.sample_rate_in
        if token_lengths is None:
            last = torch.tensor([decoded_BS.shape[1] - 1], device=decoded_BS.device)
        else:
            last = self.facts.samples_out(token_lengths) - 1
        index = torch.arange(size, device=decoded_BS.device).minimum(last.clamp(min=0)[:, None])
        return decoded_BS.gather(1, index.expand(decoded_BS.shape[0], -1))

    def stream(self, *, batch_size: int = 1) -> CodecStream:
        """Start a stream whose `encode` and `decode` take one or more chunks at a time.

        Raises: StreamingError when a part does not stream.
        """
        batch_size = checked_count(batch_size, "batch_size", least=1)
        return CodecStream(self.encoder, self.quantizer, self.decoder, self.facts, batch_size=batch_size)

    def for_inference(
        self, *, weights: str = "fp32", engine: str = TORCH, rows: Sequence[int] = (1,)
    ) -> Codec:
        """Return a copy of this codec for fast steps where it is. Not for training; not for saving.

        `weights`: "fp32", "bf16", "int8", or "auto"; on GPUs "fp32". `engine`: "torch", which packs linears
        for CPUs; one that a plugin brings ("onnxruntime" of wavslm-onnx, "inductor" of wavslm-inductor,
        "cuda_graphs" of wavslm-cuda-graphs for GPUs), which makes each step of a stream a graph and takes its
        time to do so; or "auto". With "auto" all that is there is timed, once on a machine for models of
        these sizes, and the finest weights among the fastest ways are taken. `rows`: the numbers of rows that
        step through the engine, where it makes steps of several. Raises: WavslmError.
        """
        device = device_type(self)
        flows = codec_flows(self.facts, device=first_floats(self).device)
        return worthwhile(
            ways(weights, engine, device=device, rows=rows),
            {**sizes(self.encoder, self.quantizer, self.decoder), **situation(device, rows)},
            lambda way: fast_copy(self, way, flows, rows=rows),
            lambda codec: turn(codec, flows, rows=max(rows)),
        )

    def checked_tokens(
        self, tokens_BT: Given, lengths: Given | None = None, *, device: torch.device | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return tokens (B,T) int64 and lengths (B,) int64, on this codec's device by default.

        Raises: ArgumentError.
        """
        device = device or first_floats(self.quantizer, self).device
        tokens_BT = checked_tokens(tokens_BT, vocab_size=self.facts.quantizer.vocab_size, device=device)
        rows, most = tokens_BT.shape
        lengths_B = checked_lengths(lengths, rows=rows, most=most, least=0, unit="tokens", device=device)
        return tokens_BT, lengths_B

    def _checked_waveform(self, waveform_BS: Given, lengths: Given | None) -> tuple[Tensor, Tensor | None]:
        waveform_BS = checked_waveform(waveform_BS, like=first_floats(self.encoder, self))
        rows, most = waveform_BS.shape
        lengths_B = checked_lengths(lengths, rows=rows, most=most, unit="samples", device=waveform_BS.device)
        return waveform_BS, lengths_B


_FINGERPRINTS: WeakKeyDictionary[Codec, tuple[WeightVersions, dict[str, Any]]] = WeakKeyDictionary()
"""What frozen codecs gave. Beside them, so that copies of a codec, with other weights, take nothing along."""


def _completed(role: Role, options: Any) -> Any:
    """Return the options of a codec's part with defaults for those that are left out; all else as it is."""
    if role not in CODEC_ROLES:
        return options
    try:
        return config_from_dict(role, options, where=role).model_dump(mode="json")
    except RecipeError:
        return options
