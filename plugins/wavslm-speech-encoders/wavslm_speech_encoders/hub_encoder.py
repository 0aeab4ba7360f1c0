"""HuBERT and wav2vec 2.0 as the transformers library computes them, up to the layer that is asked for."""

from types import ModuleType
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.plugin import Encoder, PluginError, SkipInitialisation, load_torchaudio
from wavslm_speech_encoders.config import HubConfig, HubertConfig, Wav2Vec2Config
from wavslm_speech_encoders.hub_weights import library_options, load_initial

ConfigT = TypeVar("ConfigT", bound=HubConfig)


def load_transformers(encoder: str) -> ModuleType:
    """Import transformers. Raises: PluginError naming the extra when it is not installed."""
    # Makes torchaudio, which transformers imports, importable where its wheel does not match torch.
    load_torchaudio()
    try:
        import transformers
    except ImportError as error:
        raise PluginError(
            f"encoder '{encoder}' needs the transformers library ({error}). "
            "Install it with: pip install 'wavslm-speech-encoders[transformers]'"
        ) from error
    return transformers


class HubEncoder(Encoder[ConfigT]):
    """The lowest layers of a model of the library, in full context.

    Without the norm above the top layer that norm-first models have, which belongs to the complete model.
    """

    model_class: ClassVar[str]
    """Its name in transformers; its config's is that with `Config` for `Model`."""

    def __init__(self, config: ConfigT) -> None:
        super().__init__(config)
        transformers = load_transformers(config.registered_name())
        config_class = getattr(transformers, self.model_class.replace("Model", "Config"))
        self.model: Any = getattr(transformers, self.model_class)(config_class(**library_options(config)))
        if config.layer_norm_first:
            self.model.encoder.layer_norm = nn.Identity()
        # Not on the meta device, and not while a saved model is loaded: its own weights follow, and the
        # checkpoint that it once started from may be gone.
        if config.checkpoint is not None and not (torch.zeros(()).is_meta or SkipInitialisation.active()):
            load_initial(self.model, config, config_class, config.checkpoint)

    def frame_lengths(self, sample_lengths: Tensor) -> Tensor:
        """Return how many frames that many samples give (any shape, int64).

        One for fewer samples than a frame is made of, which are continued with zeros.
        """
        frames = sample_lengths
        for kernel, stride in zip(self.config.kernel_sizes, self.config.strides, strict=True):
            frames = (frames - kernel) // stride + 1
        return torch.where(sample_lengths > 0, frames.clamp(min=1), 0)

    def forward(self, waveform_BS: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Return the hidden states of the layer, (B,T,D).

        Items of one length go through together: base models normalise over time, so that an item would hear
        its padding, which no mask prevents.
        """
        size = waveform_BS.shape[1]
        if lengths is None:
            return self._features(waveform_BS)
        frames = int(self.frame_lengths(torch.tensor(size)))
        features_BTD = waveform_BS.new_zeros(len(waveform_BS), frames, self.config.dim)
        for length in lengths.unique().tolist():
            if length:
                rows = (lengths == length).nonzero().flatten()
                found_NTD = self._features(waveform_BS[rows, :length])
                features_BTD[rows, : found_NTD.shape[1]] = found_NTD.to(features_BTD.dtype)
        return features_BTD

    def _features(self, waveform_BS: Tensor) -> Tensor:
        if self.config.normalize_waveform:
            waveform_BS = F.layer_norm(waveform_BS, waveform_BS.shape[1:], eps=1e-7)
        missing = self.config.receptive_samples - waveform_BS.shape[1]
        if missing > 0:
            waveform_BS = F.pad(waveform_BS, (0, missing))
        hidden_BTD: Tensor = self.model(waveform_BS).last_hidden_state
        return hidden_BTD


class Hubert(HubEncoder[HubertConfig]):
    """HuBERT."""

    model_class = "HubertModel"


class Wav2Vec2(HubEncoder[Wav2Vec2Config]):
    """wav2vec 2.0."""

    model_class = "Wav2Vec2Model"
