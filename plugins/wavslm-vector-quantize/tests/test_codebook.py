"""The moving codebook: looks up as brute force does, learns as the library does, from valid rows only."""

import copy
from typing import Any

import pytest
import torch
from vector_quantize_pytorch import VectorQuantize
from vector_quantize_pytorch.vector_quantize_pytorch import kmeans

from wavslm_core.parts.interfaces import Quantizer
from wavslm_vector_quantize import codebook
from wavslm_vector_quantize.codebook import MovingCodebook, nearest
from wavslm_vector_quantize.codebook_configs import CodebookOptions


@pytest.mark.parametrize("at_once", [1, 7 * 33, 1 << 20])
def test_nearest_is_the_smallest_distance(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codebook, "SCORES_AT_ONCE", at_once)
    rows, codes = torch.randn(50, 6), torch.randn(33, 6)
    assert torch.equal(nearest(rows, codes), torch.cdist(rows, codes).argmin(-1))
    assert nearest(rows[:0], codes).shape == (0,)


@pytest.mark.parametrize("unit_norm", [False, True])
def test_a_step_changes_the_codes_as_the_librarys_does(unit_norm: bool) -> None:
    options = CodebookOptions(initial="random", decay=0.8, dead_code_share=0)
    ours = MovingCodebook(20, 6, options, unit_norm=unit_norm)
    library: Any = VectorQuantize(6, 20, decay=0.8, use_cosine_sim=unit_norm, rotation_trick=False)
    # As many rows as codes: then an equal share is the count of one that the library starts with.
    first = torch.randn(20, 6)
    library.codebook = ours.all_codes
    library._codebook.embed_avg.copy_(library._codebook.embed)
    for number in range(5):
        rows = first if number == 0 else torch.randn(200, 6)
        if unit_norm:
            rows = torch.nn.functional.normalize(rows, dim=-1)
        indices, codes = ours.fit(rows)
        expected_codes, expected_indices, _ = library(rows[None])
        assert torch.equal(indices, expected_indices[0])
        assert torch.allclose(codes, expected_codes[0], atol=1e-6)
        assert torch.allclose(ours.all_codes, library.codebook, atol=1e-6)


def test_the_first_batch_is_clustered_as_the_library_does() -> None:
    rows = torch.randn(400, 4)
    codebook = MovingCodebook(8, 4, CodebookOptions(decay=0.999999))
    torch.manual_seed(7)
    expected, _ = kmeans(rows[None], 8, num_iters=10)
    torch.manual_seed(7)
    codebook.fit(rows)
    assert torch.allclose(codebook.all_codes, expected[0], atol=1e-3)


def test_codes_that_nothing_uses_are_replaced_by_what_comes() -> None:
    codebook = MovingCodebook(256, 4, CodebookOptions())
    for _ in range(12):
        codebook.fit(torch.randn(40, 4))
    rows = torch.randn(4000, 4)
    assert len(codebook.lookup(rows).unique()) > 200
    kept = MovingCodebook(256, 4, CodebookOptions(initial="random", dead_code_share=0))
    for _ in range(12):
        kept.fit(100 + torch.randn(40, 4))
    assert len(kept.lookup(100 + rows).unique()) < 10


def test_only_training_learns_and_only_from_finite_rows() -> None:
    codebook = MovingCodebook(8, 4, CodebookOptions())
    codebook.fit(torch.randn(30, 4))
    before = copy.deepcopy(codebook.state_dict())
    codebook.fit(torch.full((3, 4), torch.nan))
    codebook.eval().fit(torch.randn(30, 4))
    assert all(torch.equal(value, before[key]) for key, value in codebook.state_dict().items())


def test_padding_teaches_nothing(quantizer: Quantizer[Any], features: Any) -> None:
    padded, alone = copy.deepcopy(quantizer).train(), copy.deepcopy(quantizer).train()
    x = features(3, batch=1)
    torch.manual_seed(1)
    expected = alone(x[:, :30])
    x[:, 30:] = 1e4
    torch.manual_seed(1)
    output = padded(x, lengths=torch.tensor([30]))
    for name, loss in expected.losses.items():
        assert torch.allclose(output.losses[name], loss, rtol=1e-4, atol=1e-6), name
    for name, value in alone.state_dict().items():
        assert torch.allclose(padded.state_dict()[name].float(), value.float(), atol=1e-5), name
