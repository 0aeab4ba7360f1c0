"""Tasks of decoders: the speech that they make of features, against the speech that these were of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wavslm_core.plugin import (
    Codec,
    DataError,
    Encoder,
    Heard,
    LossOutput,
    MelLoss,
    Rebuilt,
    ResynthesisTask,
    load_torchaudio,
    weights_digest,
)
from wavslm_focalcodec_stream.feature_stage import DecoderStageConfig, DecoderStageConfigT
from wavslm_focalcodec_stream.feature_task import FeatureTask

MEL_BANDS = 80
MEL_RATE_HZ = 24000
MEL_WINDOW, MEL_HOP = 1024, 480
"""In samples at that rate."""
MEL_TOP_HZ = 12000
MEL_FLOOR = 1e-5


class LogMelDistance(nn.Module):
    """Mean |difference| of log-mel amplitudes, as FocalCodec-Stream trains its decoder by (arXiv 2509.16195).

    80 bands of Slaney's scale and area up to 12 kHz, or half the rate; Hann windows of 43 ms, 20 ms apart;
    logarithms of amplitudes of at least 1e-5.
    """

    def __init__(self, sample_rate_hz: int) -> None:
        super().__init__()
        self.hop = round(MEL_HOP * sample_rate_hz / MEL_RATE_HZ)
        # Even, so that a window has a middle.
        self.size = 2 * round(MEL_WINDOW * sample_rate_hz / MEL_RATE_HZ / 2)
        filters_FM = load_torchaudio().functional.melscale_fbanks(
            self.size // 2 + 1,
            0.0,
            min(MEL_TOP_HZ, sample_rate_hz / 2),
            MEL_BANDS,
            sample_rate_hz,
            norm="slaney",
            mel_scale="slaney",
        )
        self.register_buffer("filters_FM", filters_FM, persistent=False)
        self.register_buffer("window_N", torch.hann_window(self.size), persistent=False)

    def forward(self, estimate_BS: Tensor, target_BS: Tensor) -> Tensor:
        """Compare waveforms (B,S) in [-1, 1]; returns a scalar. Computed in fp32 under any autocast."""
        with torch.autocast(estimate_BS.device.type, enabled=False):
            spectrum_PFT = torch.stft(
                torch.cat([estimate_BS, target_BS]).float(),
                self.size,
                hop_length=self.hop,
                window=self.get_buffer("window_N"),
                pad_mode="constant",
                return_complex=True,
            )
            mel_PTM = spectrum_PFT.abs().mT @ self.get_buffer("filters_FM")
            estimate_BTM, target_BTM = mel_PTM.clamp(min=MEL_FLOOR).log().chunk(2)
            return (estimate_BTM - target_BTM).abs().mean()


def _distance(config: DecoderStageConfig, sample_rate_hz: int) -> nn.Module:
    if config.spectral_windows is None:
        return LogMelDistance(sample_rate_hz)
    floor: dict[str, Any] = {} if config.spectral_floor is None else {"floor": config.spectral_floor}
    return MelLoss(sample_rate_hz, window_samples=config.spectral_windows, **floor)


class DecoderTask(FeatureTask[DecoderStageConfigT], ResynthesisTask[DecoderStageConfigT]):
    """The decoder gives back crops of which it is given the features."""

    reaches_all_weights = True

    def __init__(
        self, codec: Codec, teacher: Encoder[Any], *, config: DecoderStageConfigT, **options: Any
    ) -> None:
        """`options` as in `ResynthesisTask`. Raises: DataError when no utterance is as long as a crop."""
        codec.eval().requires_grad_(False)
        codec.decoder.requires_grad_(True)
        super().__init__(codec, teacher, config=config, rate_out=codec.sample_rate_out, **options)
        durations_s = self.train.durations_s
        longest_s = float(durations_s[durations_s <= config.longest_seconds].max())
        if longest_s < config.crop_seconds:
            raise DataError(
                f"crop_seconds is {config.crop_seconds:g}, but the longest utterance of split "
                f"'{self.train.name}' lasts {longest_s:.2f} s. Lower crop_seconds, or train on longer ones"
            )
        self.spectral = _distance(config, self.rate_out).to(self.device)

    @property
    def trained(self) -> dict[str, nn.Module]:
        return {"decoder": self.codec.decoder}

    @property
    def parts(self) -> dict[str, nn.Module]:
        return self.modules

    def rebuild(self, step: int, micro_batch: int) -> Rebuilt:
        batch = self.taught(step, micro_batch)
        estimate_BS = self.codec.decoder(batch.features[0], lengths=batch.frame_lengths_B)
        target_BS, _ = self.padded(batch.targets)
        # An encoder without padding has no frame of the last samples.
        lengths_B = batch.lengths_B.minimum(batch.frame_lengths_B * self.codec.facts.encoder.hop_samples)
        return self.rebuilt(batch.crops, lengths_B, target_BS, estimate_BS)

    def loss(self, step: int, micro_batch: int) -> LossOutput:
        rebuilt = self.rebuild(step, micro_batch)
        parts = {"spectral": self.distance(rebuilt), **self.fooled(step, rebuilt)}
        frames = rebuilt.samples // self.codec.facts.encoder.hop_samples
        return LossOutput(
            self.weighted(parts, {"spectral": self.config.spectral_weight}),
            metrics={name: value.detach() for name, value in parts.items()},
            weight=rebuilt.samples,
            tokens=int(self.codec.quantizer.token_lengths(torch.tensor(frames))),
            description=self.described(rebuilt.crops),
        )

    def validate(self) -> dict[str, float]:
        """Return the log-mel distance of whole utterances (`loss`), and the metrics that were asked for."""
        return self.sound(*self.scored(self._heard))

    def _heard(self, indices: Sequence[int]) -> list[Heard]:
        batch = self.taught_valid(indices)
        decoded_BS = self.codec.decoder(batch.features[0], lengths=batch.frame_lengths_B).float()
        sizes = (batch.frame_lengths_B * self.codec.facts.decoder.hop_samples).tolist()
        return [
            self.hear(index, target_S, decoded_S[:size])
            for index, target_S, decoded_S, size in zip(
                indices, batch.targets, decoded_BS, sizes, strict=True
            )
        ]

    def resynthesise(self, waveform_1S: Tensor) -> Tensor:
        lengths_1 = torch.tensor([waveform_1S.shape[1]], device=waveform_1S.device)
        waveform: Tensor = self.codec.decoder(self.teach(waveform_1S, lengths_1)[0])
        return waveform


class CodedDecoderTask(DecoderTask[DecoderStageConfig]):
    """The decoder is given what the codec itself makes of whole utterances, through codes."""

    @property
    def outputs(self) -> tuple[str, ...]:
        return ("coded",)

    @property
    def width(self) -> int:
        return self.codec.facts.quantizer.output_dim

    @property
    def fingerprint(self) -> dict[str, Any]:
        quantizer = self.codec.quantizer
        own = {"quantizer": quantizer.config.model_dump(mode="json"), "weights": weights_digest(quantizer)}
        return {**super().fingerprint, **own}

    @torch.no_grad()
    def teach(self, waveform_BS: Tensor, lengths_B: Tensor) -> list[Tensor]:
        """Return the quantizer's features of whole utterances, (B,T,D)."""
        tokens_BT = self.codec.encode(waveform_BS, lengths=lengths_B)
        quantizer = self.codec.quantizer
        return [quantizer.decode(tokens_BT, lengths=self.codec.token_lengths(lengths_B))]
