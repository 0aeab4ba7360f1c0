"""What is hidden is not heard; spans are as many and as long as published."""

from __future__ import annotations

import melodies
import numpy as np
import torch

from wavslm_wavlm.config import WavLMConfig
from wavslm_wavlm.encoder import WavLM
from wavslm_wavlm.pretraining.prediction import ClusterPredictor, copied, span_mask


def test_spans_hide_the_share_that_is_expected() -> None:
    masked_T = span_mask(100_000, probability=0.08, span=10, generator=np.random.default_rng(0))
    assert abs(masked_T.mean() - (1 - 0.92**10)) < 0.01
    edges = np.flatnonzero(np.diff(masked_T.astype(int)))
    runs = (edges[1:] - edges[:-1])[int(not masked_T[edges[0] + 1]) :: 2]
    assert runs.min() == 10
    assert (runs > 10).any()


def test_some_frame_is_hidden_however_few_there_are() -> None:
    for frames in (1, 2, 9, 10, 11, 40):
        for seed in range(20):
            masked_T = span_mask(frames, probability=1e-9, span=10, generator=np.random.default_rng(seed))
            assert len(masked_T) == frames
            first = int(masked_T.argmax())
            assert masked_T.sum() == min(10, frames - first)


def test_hidden_frames_are_not_heard_and_others_are() -> None:
    torch.manual_seed(0)
    encoder = WavLM(WavLMConfig(**melodies.WAVLM)).eval()
    predictor = ClusterPredictor(32, 6, projection_dim=16, temperature=0.1)
    first_BS, second_BS = melodies.melody(0, 1.0)[None], melodies.melody(3, 1.0)[None]
    frames = int(encoder.frame_lengths(torch.tensor(16000)))
    masked_BT = torch.zeros(1, frames, dtype=torch.bool)
    plain, other = (
        predictor.hidden_states(encoder, wave, masked_BT, lengths=None) for wave in (first_BS, second_BS)
    )
    torch.testing.assert_close(plain, encoder(first_BS))
    assert not torch.allclose(plain, other)
    masked_BT[:] = True
    hidden, same = (
        predictor.hidden_states(encoder, wave, masked_BT, lengths=None) for wave in (first_BS, second_BS)
    )
    assert torch.equal(hidden, same)


def test_logits_are_cosines_over_a_temperature() -> None:
    torch.manual_seed(0)
    predictor = ClusterPredictor(8, 5, projection_dim=4, temperature=0.1)
    rows_ND = torch.randn(7, 8)
    expected = torch.cosine_similarity(
        predictor.projection(rows_ND)[:, None], predictor.cluster_embeddings, dim=-1
    )
    torch.testing.assert_close(predictor(rows_ND), expected / 0.1)


def test_copying_takes_the_nearest_frame_that_is_heard() -> None:
    labels = np.array([4, 5, 6, 7, 8, 9])
    masked = np.array([True, False, True, True, True, False])
    assert copied(labels, masked).tolist() == [5, 5, 5, 5, 9, 9]
    assert copied(labels, np.ones(6, bool)).tolist() == [-1] * 6
