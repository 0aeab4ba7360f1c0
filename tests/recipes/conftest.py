"""Folders in place of the hub: a small WavLM as the transformers library writes it, and a corpus."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from wavslm_core.data.audio import load_torchaudio, write_audio

DIM = 32


@pytest.fixture(scope="session")
def wavlm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small WavLM-large-style model with random weights, written by the transformers library."""
    pytest.importorskip("transformers", reason="writes the WavLM checkpoint", exc_type=ImportError)
    load_torchaudio()
    from transformers import WavLMConfig, WavLMModel

    torch.manual_seed(1)
    model = WavLMModel(
        WavLMConfig(
            hidden_size=DIM,
            num_hidden_layers=4,
            num_attention_heads=2,
            intermediate_size=48,
            conv_dim=(16,) * 7,
            do_stable_layer_norm=True,
            feat_extract_norm="layer",
            num_conv_pos_embeddings=16,
        )
    )
    folder = tmp_path_factory.mktemp("hub") / "wavlm"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    generator = torch.Generator().manual_seed(2)
    for split, count in (("train", 6), ("valid", 3)):
        for number in range(count):
            envelope_S = torch.rand(60, generator=generator).repeat_interleave(800)
            waveform_S = 0.1 * envelope_S * torch.randn(48000, generator=generator)
            write_audio(folder / split / f"{number}.flac", waveform_S, 16000)
    return folder
