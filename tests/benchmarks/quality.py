"""What smaller weights and other engines cost a trained model: `tiny` over held-out speech, teacher-forced.

Every way streams the same tokens chunk by chunk. After each chunk the next one is drawn with the same random
numbers and the same history as in plain fp32, token by token the true ones. Encoding and resynthesis stream
the recordings themselves.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.benchmarks.tables import print_table
from wavslm_core import Codec, SpeechLM
from wavslm_core.data.corpora import open_split
from wavslm_core.evaluation.config import StoiConfig
from wavslm_core.model.inference import AUTO, ways
from wavslm_core.model.sampling import draw_ids
from wavslm_core.parts.configs import DataConfig
from wavslm_core.parts.interfaces import Draw, Sampler, SamplingContext
from wavslm_core.parts.plugins import load_registry
from wavslm_core.parts.streaming import stream_mode
from wavslm_tiny_speech.config import TinySpeechConfig

MINUTES = 1.0


class ForcedDraw(Draw):
    """Draws, notes what was drawn, and lets the head go on as if the true token had been."""

    def __init__(
        self, sampler: Sampler, before_BT: Tensor, true_BC: Tensor, generator: torch.Generator
    ) -> None:
        self._sampler, self._before_BT, self._true_BC = sampler, before_BT, true_BC
        self._generator = generator
        self._history = sampler.config.facts().history_tokens
        self._given = 0
        self.drawn: list[Tensor] = []

    @property
    def before_BT(self) -> Tensor:
        return self._before_BT

    def tokens(self, logits_BKV: Tensor) -> Tensor:
        count = logits_BKV.shape[1]
        known_BT = torch.cat([self._before_BT, self._true_BC[:, : self._given]], dim=1)
        history_BH = known_BT[:, known_BT.shape[1] - min(self._history, known_BT.shape[1]) :]
        context = SamplingContext(
            torch.arange(self._given, self._given + count), history_BH.repeat_interleave(count, dim=0)
        )
        logits_NV = self._sampler.adjust(logits_BKV.flatten(0, 1).float(), context)
        self.drawn.append(draw_ids(logits_NV, torch.rand(count, generator=self._generator))[None])
        self._given += count
        return self._true_BC[:, self._given - count : self._given]

    def symbols(self, logits_BKV: Tensor) -> Tensor:
        raise NotImplementedError("the head of `tiny` draws tokens")


def run() -> None:
    model = SpeechLM.load("tiny")
    waveforms = held_out(model.codec)
    reference = Streamed(model, waveforms, tokens=None)
    rows: list[list[object]] = []
    for way in ways(AUTO, AUTO):
        fast = model.for_inference(weights=way.weights, engine=way.engine)
        found = Streamed(fast, waveforms, tokens=reference.tokens).beside(reference)
        rows.append([f"{way.weights}, {way.engine}", *found])
    print_table(
        f"quality: tiny, {sum(map(len, waveforms)) / 16000:.0f} s of unseen voices, against plain fp32 "
        f"(STOI {reference.stoi:.4f}, {reference.bits:.3f} bits a token)",
        ["weights, engine", "draws that differ %", "mean |Δ log p|", "bits a token", "tokens kept %", "STOI"],
        rows,
    )


def held_out(codec: Codec) -> list[Tensor]:
    """Return recordings (S,) of whole chunks."""
    data = DataConfig((("valid", TinySpeechConfig(valid_minutes=MINUTES)),))
    with tempfile.TemporaryDirectory(prefix="quality-") as folder:
        split = open_split(data, "valid", cache_dir=Path(folder))
        chunk = codec.facts.chunk_samples_in
        waveforms = [split.load(place, sample_rate_hz=16000) for place in range(len(split.utterances))]
    return [waveform_S[: len(waveform_S) // chunk * chunk] for waveform_S in waveforms]


class Streamed:
    """What a model gives of recordings, chunk by chunk; `tokens`: those to score, else what it encodes."""

    def __init__(self, model: SpeechLM, waveforms: list[Tensor], tokens: list[Tensor] | None) -> None:
        self.encoded = [encoded(model.codec, waveform_S) for waveform_S in waveforms]
        self.tokens = self.encoded if tokens is None else tokens
        stoi = load_registry().build(StoiConfig())
        values = [
            stoi.compute(waveform_S, decoded(model.codec, tokens_1T)[: len(waveform_S)], sample_rate_hz=16000)
            for waveform_S, tokens_1T in zip(waveforms, self.encoded, strict=True)
        ]
        self.stoi = torch.tensor(values).nanmean().item()
        scored = [forced(model, tokens_1T, seed=place) for place, tokens_1T in enumerate(self.tokens)]
        self.drawn = torch.cat([drawn for drawn, _ in scored], dim=1)
        self.log_probs = torch.cat([log_probs for _, log_probs in scored], dim=1)
        self.bits = -self.log_probs.mean().item() / torch.log(torch.tensor(2.0)).item()

    def beside(self, reference: "Streamed") -> list[object]:
        kept = torch.cat(self.encoded, dim=1) == torch.cat(reference.encoded, dim=1)
        return [
            100 * (self.drawn != reference.drawn).float().mean().item(),
            (self.log_probs - reference.log_probs).abs().mean().item(),
            self.bits,
            100 * kept.float().mean().item(),
            f"{self.stoi:.4f}",
        ]


def encoded(codec: Codec, waveform_S: Tensor) -> Tensor:
    stream, chunk = codec.stream(), codec.facts.chunk_samples_in
    return torch.cat([stream.encode(piece_1S) for piece_1S in waveform_S[None].split(chunk, dim=1)], dim=1)


def decoded(codec: Codec, tokens_1T: Tensor) -> Tensor:
    stream, chunk = codec.stream(), codec.facts.chunk_tokens
    pieces = [stream.decode(piece_1C) for piece_1C in tokens_1T.split(chunk, dim=1)]
    return torch.cat([*pieces, stream.flush()], dim=1)[0, codec.facts.decoder.delay_samples :]


@stream_mode()
def forced(model: SpeechLM, tokens_1T: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
    """Return what was drawn after each chunk but the last, and log p of the same tokens, both (1,T)."""
    chunk, generator = model.chunk_tokens, torch.Generator().manual_seed(seed)
    quantizer, backbone = model.codec.quantizer, model.backbone
    features_state, state = quantizer.init_decode_state(1), backbone.init_state(1)
    pieces, hidden, drawn = tokens_1T.split(chunk, dim=1), [], []
    for place, piece_1C in enumerate(pieces):
        read: Any = piece_1C
        if model.reads_features:
            read, features_state = quantizer.decode_step(piece_1C, features_state)
        hidden_1CD, state = backbone.step(read, state)
        hidden.append(hidden_1CD)
        if place + 1 < len(pieces):
            draw = ForcedDraw(
                model.sampler, tokens_1T[:, : (place + 1) * chunk], pieces[place + 1], generator
            )
            model.head.propose(hidden_1CD, draw)
            drawn += draw.drawn
    log_probs_1T = model.head.log_probs(torch.cat(hidden, dim=1), tokens_1T)
    return torch.cat(drawn, dim=1), log_probs_1T[:, chunk:]
