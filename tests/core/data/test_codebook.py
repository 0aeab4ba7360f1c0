"""Codebook use: counts, entropy and the thinned rank curve."""

import numpy as np
import pytest

from wavslm_core.data.codebook import codebook_use, count_codes


def test_uniform_use_has_full_entropy() -> None:
    use = codebook_use(count_codes([np.arange(16)] * 10, vocab_size=16))
    assert (use.used, use.used_fraction) == (16, 1.0)
    assert use.entropy_bits == pytest.approx(4.0)
    assert use.perplexity == pytest.approx(16.0)


def test_uneven_use() -> None:
    use = codebook_use(count_codes([np.array([5, 5]), np.array([5, 2])], vocab_size=1024))
    assert use.used == 2
    assert use.entropy_bits == pytest.approx(0.75 * np.log2(4 / 3) + 0.5)
    assert use.top == [(5, 0.75), (2, 0.25)]
    assert use.rank_curve[:2] == [(1, 0.75), (2, 0.25)]
    assert use.rank_curve[-1] == (1024, 0.0)
    assert len(use.rank_curve) < 201


@pytest.mark.parametrize("token", [8, -1])
def test_tokens_outside_the_codebook_are_refused(token: int) -> None:
    with pytest.raises(ValueError, match="in 0…7"):
        count_codes([np.array([token])], vocab_size=8)


def test_nothing_counted_is_refused() -> None:
    with pytest.raises(ValueError, match="no token"):
        codebook_use(np.zeros(8, dtype=np.int64))


def test_collapse_is_less_than_half_of_what_could_be() -> None:
    even = codebook_use(np.full(16, 5))
    assert even.collapse is None
    assert even.scores == {"codes_used": 16, "codebook_usage": 1.0, "code_entropy_bits": 4.0}
    assert codebook_use(np.array([3, 2, 2, 1] + [0] * 12)).collapse is None
    few = codebook_use(np.array([30, 2] + [0] * 14)).collapse
    assert few == "2 of 16 codes occur in 32 tokens, with an entropy of 0.34 of 4.00 bits"
    assert codebook_use(np.array([1, 0])).collapse is None
