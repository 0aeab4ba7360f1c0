"""Fakes: the smallest parts that obey every contract, learn, stream and save. For tests that need a whole
codec or language model in milliseconds and without plugins.

    from wavslm_core.testing.fakes import fake_codec, register_fakes
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from wavslm_core.model.codec import Codec
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.parts.configs import Config
from wavslm_core.parts.interfaces import (
    Backbone,
    Decoder,
    Discriminator,
    Draw,
    Encoder,
    Head,
    Judgement,
    Quantizer,
    QuantizerOutput,
    Sampler,
    SamplingContext,
    State,
)
from wavslm_core.parts.lengths import valid_mask, zero_padding
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.registry import Entry, Registry
from wavslm_core.testing.fake_configs import (
    FakeBackboneConfig,
    FakeDecoderConfig,
    FakeDiscriminatorConfig,
    FakeEncoderConfig,
    FakeHeadConfig,
    FakeQuantizerConfig,
    FakeSamplerConfig,
)


class FakeEncoder(Encoder[FakeEncoderConfig]):
    def __init__(self, config: FakeEncoderConfig) -> None:
        super().__init__(config)
        self.linear = nn.Linear(config.hop_samples, config.dim)

    def forward(self, waveform_BS: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        hop = self.config.hop_samples
        waveform_BS = zero_padding(waveform_BS[..., None], lengths)[..., 0]
        padded = nn.functional.pad(waveform_BS, (0, -waveform_BS.shape[1] % hop))
        features: Tensor = self.linear(padded.unflatten(1, (-1, hop)))
        return features

    def frame_lengths(self, sample_lengths: Tensor) -> Tensor:
        return (sample_lengths + self.config.hop_samples - 1) // self.config.hop_samples

    def init_state(self, batch_size: int) -> State:
        return ()

    def step(self, waveform_BS: Tensor, state: State) -> tuple[Tensor, State]:
        return self(waveform_BS), state


class FakeQuantizer(Quantizer[FakeQuantizerConfig]):
    powers: Tensor

    def __init__(self, config: FakeQuantizerConfig) -> None:
        super().__init__(config)
        self.compress = nn.Linear(config.input_dim, config.bits)
        self.decompress = nn.Linear(config.bits, config.input_dim)
        self.register_buffer("powers", 2 ** torch.arange(config.bits), persistent=False)

    def encode(self, features_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return ((self.compress(features_BTD) > 0).long() * self.powers).sum(-1) * self.config.max_run

    def decode(self, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        codes_BT, beyond_BT = tokens_BT // self.config.max_run, tokens_BT % self.config.max_run
        bits = (codes_BT[..., None] // self.powers) % 2
        features: Tensor = self.decompress(bits.float() * 2 - 1)
        return features + beyond_BT[..., None]

    def forward(
        self, features_BTD: Tensor, *, lengths: Tensor | None = None, bypass_codes: bool = False
    ) -> QuantizerOutput:
        latents = torch.tanh(self.compress(features_BTD))
        codes = torch.where(latents > 0, 1.0, -1.0)
        passed = latents if bypass_codes else latents + (codes - latents).detach()
        distance = (codes - latents).square()
        if lengths is not None:
            distance = distance[valid_mask(lengths, distance.shape[1])]
        return QuantizerOutput(
            self.decompress(passed), self.encode(features_BTD), {"commitment": distance.mean()}
        )

    def init_encode_state(self, batch_size: int) -> State:
        return ()

    def encode_step(self, features_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        return self.encode(features_BTD), state

    def init_decode_state(self, batch_size: int) -> State:
        return ()

    def decode_step(self, tokens_BT: Tensor, state: State) -> tuple[Tensor, State]:
        return self.decode(tokens_BT), state


class FakeDecoder(Decoder[FakeDecoderConfig]):
    silence: Tensor

    def __init__(self, config: FakeDecoderConfig) -> None:
        super().__init__(config)
        self.linear = nn.Linear(config.input_dim, config.hop_samples)
        # Not taken from the linear, whose weight a packed copy does not have.
        self.register_buffer("silence", torch.zeros(1, config.delay_samples), persistent=False)

    def forward(self, features_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return torch.tanh(self.linear(features_BTD)).flatten(1)

    def init_state(self, batch_size: int) -> State:
        return (self.silence.expand(batch_size, -1),)

    def step(self, features_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        joined = torch.cat([state[0], self(features_BTD)], dim=1)
        size = joined.shape[1] - self.config.delay_samples
        return joined[:, :size], (joined[:, size:],)

    def flush(self, state: State) -> Tensor:
        return state[0]


class FakeBackbone(Backbone[FakeBackboneConfig]):
    def __init__(self, config: FakeBackboneConfig) -> None:
        super().__init__(config)
        self.table: nn.Embedding | None = (
            nn.Embedding(config.vocab_size, config.input_dim) if config.input == "embedding" else None
        )
        self.gru = nn.GRU(config.input_dim, config.dim, batch_first=True)

    def forward(self, inputs: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return self.step(inputs, self.init_state(inputs.shape[0]))[0]

    def init_state(self, batch_size: int) -> State:
        return (next(self.parameters()).new_zeros(1, batch_size, self.config.dim),)

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        hidden_BTD, last = self.gru(inputs if self.table is None else self.table(inputs), state[0])
        return hidden_BTD, (last,)


class FakeHead(Head[FakeHeadConfig]):
    def __init__(self, config: FakeHeadConfig) -> None:
        super().__init__(config)
        self.linear = nn.Linear(config.input_dim, config.vocab_size)

    def log_probs(self, hidden_BTD: Tensor, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        chunk = self.config.chunk_tokens
        log_probs_BTV = self.linear(hidden_BTD).log_softmax(-1)[:, :-chunk]
        result_BT = torch.full(tokens_BT.shape, torch.nan, device=tokens_BT.device)
        result_BT[:, chunk:] = log_probs_BTV.gather(-1, tokens_BT[:, chunk:, None])[..., 0]
        if lengths is not None:
            result_BT = result_BT.masked_fill(~valid_mask(lengths, tokens_BT.shape[1]), torch.nan)
        return result_BT

    def propose(self, hidden_BCD: Tensor, draw: Draw) -> Tensor:
        return draw.tokens(self.linear(hidden_BCD))


class FakeSampler(Sampler):
    def adjust(self, logits_NV: Tensor, context: SamplingContext) -> Tensor:
        return logits_NV


class FakeDiscriminator(Discriminator[FakeDiscriminatorConfig]):
    """Its buffers move in training, as those of spectral norm do."""

    def __init__(self, config: FakeDiscriminatorConfig) -> None:
        super().__init__(config)
        self.first = spectral_norm(nn.Conv1d(1, config.channels, 15, stride=4, padding=7))
        # A bias would move by rounding alone: hinge losses in their linear part cancel what they send it.
        self.last = nn.Conv1d(config.channels, 1, 5, padding=2, bias=False)

    def forward(self, waveform_BS: Tensor) -> list[Judgement]:
        hidden_BCT = self.first(waveform_BS[:, None])
        scores_B1T = self.last(nn.functional.leaky_relu(hidden_BCT, 0.1))
        return [Judgement(scores_B1T.flatten(1), [hidden_BCT, scores_B1T])]


FAKES: tuple[tuple[type[Config], type], ...] = (
    (FakeEncoderConfig, FakeEncoder),
    (FakeQuantizerConfig, FakeQuantizer),
    (FakeDecoderConfig, FakeDecoder),
    (FakeBackboneConfig, FakeBackbone),
    (FakeHeadConfig, FakeHead),
    (FakeSamplerConfig, FakeSampler),
    (FakeDiscriminatorConfig, FakeDiscriminator),
)


def register_fakes(registry: Registry | None = None) -> None:
    """Register every fake under the name `fake`, in this process's registry by default."""
    registry = registry or load_registry()
    for config_class, target in FAKES:
        path = f"{target.__module__}:{target.__qualname__}"
        registry.add(Entry(config_class.role, "fake", config_class, path, "wavslm-core", "testing"))


def fake_codec(*, dim: int = 16, bits: int = 5, max_run: int = 1, delay_samples: int = 0) -> Codec:
    """Return a codec of fakes at 16 kHz and 50 Hz, in chunks of 4 frames."""
    register_fakes()
    return Codec(
        FakeEncoder(FakeEncoderConfig(dim=dim)),
        FakeQuantizer(FakeQuantizerConfig(input_dim=dim, bits=bits, max_run=max_run)),
        FakeDecoder(FakeDecoderConfig(input_dim=dim, delay_samples=delay_samples)),
    ).eval()


def fake_speech_lm(codec: Codec, *, chunk_tokens: int = 4, reads: str = "features") -> SpeechLM:
    """Return a language model of fakes over a codec."""
    register_fakes()
    quantizer = codec.facts.quantizer
    backbone = FakeBackboneConfig.model_validate(
        {"input": reads, "input_dim": quantizer.output_dim, "vocab_size": quantizer.vocab_size}
    )
    head = FakeHeadConfig(input_dim=backbone.dim, vocab_size=quantizer.vocab_size, chunk_tokens=chunk_tokens)
    return SpeechLM(codec, FakeBackbone(backbone), FakeHead(head), FakeSampler(FakeSamplerConfig())).eval()
