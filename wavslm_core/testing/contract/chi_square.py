"""How likely observed counts are, given the probabilities that they were drawn with."""

import torch
from torch import Tensor

LEAST_EXPECTED = 5.0
"""Cells with fewer expected counts are counted together, as the approximation asks."""
LEAST_LIKELY = 1e-5
"""A fit as bad as this is no chance: seeds are fixed, and a wrong distribution is far below it."""


def chi_square_likelihood(counts_K: Tensor, probabilities_K: Tensor) -> float:
    """Return how likely a fit at least as bad is, in [0, 1]; 0 when something impossible was counted."""
    if len(counts_K) != len(probabilities_K) or bool((counts_K[probabilities_K <= 0] > 0).any()):
        return 0.0
    expected_K = probabilities_K.double() / probabilities_K.double().sum() * counts_K.sum()
    rare = expected_K < LEAST_EXPECTED
    observed, expected = counts_K[~rare].double(), expected_K[~rare]
    if float(expected_K[rare].sum()) > 0:
        observed = torch.cat([observed, counts_K[rare].double().sum()[None]])
        expected = torch.cat([expected, expected_K[rare].sum()[None]])
    if len(expected) < 2:
        return 1.0
    statistic = ((observed - expected).square() / expected).sum()
    freedom = torch.tensor((len(expected) - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(freedom, statistic / 2))
