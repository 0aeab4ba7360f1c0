"""Registers the encoders `mel`, `hubert` and `wav2vec2`."""

from wavslm_core.plugin import Register, hookimpl
from wavslm_speech_encoders.config import HubertConfig, MelConfig, Wav2Vec2Config


@hookimpl
def register_encoders(register: Register) -> None:
    register(MelConfig, "wavslm_speech_encoders.mel:Mel")
    register(HubertConfig, "wavslm_speech_encoders.hub_encoder:Hubert")
    register(Wav2Vec2Config, "wavslm_speech_encoders.hub_encoder:Wav2Vec2")
