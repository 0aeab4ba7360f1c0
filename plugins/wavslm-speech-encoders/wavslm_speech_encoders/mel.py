"""Log-mel frames: the cheapest encoder, and what an encoder with weights has to beat."""

import torch
from torch import Tensor
from torch.nn import functional as F

from wavslm_core.plugin import Encoder, FrameRing, State, check_whole_chunks, load_torchaudio, zero_padding
from wavslm_speech_encoders.config import MelConfig


class Mel(Encoder[MelConfig]):
    """Amplitudes of Hann windows in mel bands, as normalised logarithms; silence comes before the first."""

    def __init__(self, config: MelConfig) -> None:
        super().__init__(config)
        device = torch.zeros(()).device
        # On the CPU whatever the encoder is on: the filters are checked as they are made.
        with torch.device("cpu"):
            window_N = torch.hann_window(config.window_samples)
            filters_KM = load_torchaudio().functional.melscale_fbanks(
                config.window_samples // 2 + 1,
                0.0,
                config.sample_rate_hz / 2,
                config.bands,
                config.sample_rate_hz,
            )
        # Scaled so that a sinusoid of amplitude one has a spectral peak of one, whatever the window.
        self.register_buffer("window", (window_N * (2 / window_N.sum())).to(device), persistent=False)
        self.register_buffer("filters", filters_KM.to(device), persistent=False)
        self.window: Tensor
        self.filters: Tensor
        # Hops before its own that a window reaches into.
        self.ring = FrameRing(-(-config.window_samples // config.hop_samples) - 1, left_padding="zeros")

    def forward(self, waveform_BS: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Return frames (B, ⌈S / hop⌉, bands) float32; a last partial hop is continued with silence."""
        hop = self.config.hop_samples
        waveform_BS = zero_padding(waveform_BS[..., None], lengths)[..., 0]
        padded_BS = F.pad(waveform_BS, (self.ring.context * hop, -waveform_BS.shape[1] % hop))
        return self._frames(padded_BS.unflatten(1, (-1, hop)))

    def frame_lengths(self, sample_lengths: Tensor) -> Tensor:
        hop = self.config.hop_samples
        return (sample_lengths + hop - 1) // hop

    def init_state(self, batch_size: int) -> State:
        return self.ring.init_state(batch_size, self.config.hop_samples, like=self.window)

    @torch.no_grad()
    def step(self, waveform_BS: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the frames (B, S / hop, bands) of whole hops. Raises: StreamingError for anything else."""
        hop = self.config.hop_samples
        check_whole_chunks(waveform_BS, hop, "samples")
        return self.ring.step(waveform_BS.unflatten(1, (-1, hop)), state, self._frames)

    def _frames(self, hops_BTH: Tensor) -> Tensor:
        """Map hops (B, context + T, hop) to frames (B,T,bands), in fp32 under any autocast."""
        hop, window = self.config.hop_samples, self.config.window_samples
        with torch.autocast(hops_BTH.device.type, enabled=False):
            samples_BS = hops_BTH.flatten(1)[:, (self.ring.context + 1) * hop - window :].float()
            spectrum_BTK = torch.fft.rfft(samples_BS.unfold(1, window, hop) * self.window)
            logarithm_BTM = (spectrum_BTK.abs() @ self.filters + self.config.floor).log()
            return (logarithm_BTM - self.config.mean_nepers) / self.config.scale_nepers
