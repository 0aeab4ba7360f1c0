"""A part that does not give what its facts said is named, and not the part that chokes on it."""

import pytest
import torch
from torch import Tensor, nn

from wavslm_core.errors import PluginError
from wavslm_core.model.speech_lm import SpeechLM
from wavslm_core.parts.interfaces import Draw
from wavslm_core.testing.fakes import FakeHead, fake_codec, fake_speech_lm

WAVEFORM_BS = torch.linspace(-0.5, 0.5, 3200).expand(2, -1)


def test_an_encoder_of_another_width() -> None:
    codec = fake_codec(dim=16)
    codec.encoder.linear = nn.Linear(320, 20)
    with pytest.raises(PluginError) as caught:
        codec.encode(WAVEFORM_BS)
    assert "encoder 'fake' of wavslm-core testing gave a tensor [2, 10, 20]" in str(caught.value)
    assert "but its facts say (B, T, output_dim 16). Report it to the authors of that plugin" in str(
        caught.value
    )


def test_a_quantizer_with_more_codes_than_it_says() -> None:
    codec = fake_codec(bits=5)
    codec.quantizer.powers = codec.quantizer.powers * 2
    codec.quantizer.compress.bias.data.fill_(100)
    with pytest.raises(PluginError, match="gave token 62, but its facts say vocab_size 32"):
        codec.encode(WAVEFORM_BS)


def test_padding_may_hold_anything() -> None:
    codec = fake_codec()
    encode = codec.quantizer.encode

    def careless(features_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        tokens_BT = encode(features_BTD, lengths=lengths)
        tokens_BT[1, 5:] = 99
        return tokens_BT

    codec.quantizer.encode = careless
    tokens_BT = codec.encode(WAVEFORM_BS, lengths=torch.tensor([3200, 1600]))
    assert not tokens_BT[1, 5:].any()


def test_a_decoder_of_another_hop() -> None:
    codec = fake_codec()
    codec.decoder.linear = nn.Linear(16, 160)
    with pytest.raises(PluginError, match="decoder 'fake' of wavslm-core testing gave a tensor"):
        codec.decode(codec.encode(WAVEFORM_BS))


def test_a_backbone_of_another_width() -> None:
    model = fake_speech_lm(fake_codec())
    model.backbone.gru = nn.GRU(16, 20, batch_first=True)
    model.backbone.init_state = lambda batch_size: (torch.zeros(1, batch_size, 20),)  # type: ignore[method-assign]
    with pytest.raises(PluginError, match="backbone 'fake' of wavslm-core testing gave a tensor"):
        model.log_probs(torch.zeros(1, 8, dtype=torch.int64))


class FarHead(FakeHead):
    def propose(self, hidden_BCD: Tensor, draw: Draw) -> Tensor:
        return super().propose(hidden_BCD, draw) + 32


def test_a_head_that_proposes_other_tokens() -> None:
    fake = fake_speech_lm(fake_codec(bits=5), reads="features")
    model = SpeechLM(fake.codec, fake.backbone, FarHead(fake.head.config), fake.sampler)
    with pytest.raises(PluginError, match="head 'fake' of wavslm-core testing gave token"):
        model.generate(torch.zeros(1, 8, dtype=torch.int64), new_tokens=4)
