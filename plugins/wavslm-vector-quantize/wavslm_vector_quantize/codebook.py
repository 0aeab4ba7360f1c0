"""A codebook of moving averages: what it is made of comes from vector-quantize-pytorch.

The library's codebook holds the codes, their running sums and counts, clusters the first batch and replaces
dead codes. It would look codes up by way of N × C distances and as many one-hot numbers; here rows are
looked up a piece at a time and summed in place.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from vector_quantize_pytorch.vector_quantize_pytorch import Codebook

from wavslm_core.plugin import all_rows, same_random_numbers
from wavslm_vector_quantize.codebook_configs import CodebookOptions

SCORES_AT_ONCE = 1 << 20
"""Distances that are held at a time: 4 MB."""


class MovingCodebook(nn.Module):
    """C codes of width K. Buffers only: everything that training changes is in the state dict."""

    def __init__(self, size: int, dim: int, options: CodebookOptions, *, unit_norm: bool = False) -> None:
        super().__init__()
        self.size = size
        self.options = options
        self.unit_norm = unit_norm
        self.table: Any = Codebook(
            dim=dim,
            codebook_size=size,
            kmeans_init=True,
            kmeans_iters=options.k_means_iterations,
            decay=options.decay,
            threshold_ema_dead_code=options.dead_code_share,
            use_cosine_sim=unit_norm,
        )
        # Until the first batch, when the library has nothing but zeros.
        self.table.embed.normal_()
        if unit_norm:
            self.table.embed.copy_(F.normalize(self.table.embed, dim=-1))

    @property
    def all_codes(self) -> Tensor:
        """The codes (C,K), a view of the buffer."""
        codes_CK: Tensor = self.table.embed[0]
        return codes_CK

    def lookup(self, rows_NK: Tensor) -> Tensor:
        """Return the nearest code of each row, (N,) int64; changes nothing."""
        return nearest(rows_NK, self.all_codes)

    def codes(self, indices: Tensor) -> Tensor:
        """Return the codes (…,K) of indices (…)."""
        return F.embedding(indices, self.all_codes)

    def fit(self, rows_NK: Tensor) -> tuple[Tensor, Tensor]:
        """Return `lookup` of the rows (N,) and their codes (N,K); in training, learn from the rows then.

        The first rows ever seen in training make the first codes. Rows that are not finite teach nothing.
        Processes that train together learn from the rows of all of them.
        """
        rows_NK = rows_NK.detach().float()
        seen_MK = all_rows(rows_NK) if self.training else rows_NK
        learns = self.training and len(seen_MK) > 0 and bool(seen_MK.sum().isfinite())
        if learns and not bool(self.table.initted):
            with same_random_numbers(seen_MK.device):
                self._start(seen_MK)
        indices_N = self.lookup(rows_NK)
        codes_NK = self.codes(indices_N)
        if learns:
            self._learn(seen_MK, all_rows(indices_N))
        return indices_N, codes_NK

    @torch.no_grad()
    def _start(self, rows_NK: Tensor) -> None:
        if self.options.initial == "random":
            self.table.initted.fill_(True)
            equal_share = len(rows_NK) / self.size
            self.table.cluster_size.fill_(equal_share)
            self.table.embed_avg.copy_(self.table.embed * equal_share)
            return
        if len(rows_NK) >= self.size or not self.options.dead_code_share:
            self.table.init_embed_(rows_NK[None])
            return
        # Fewer rows than codes are their own clusters; codes beyond them are dead, and replaced by and by.
        self.table.initted.fill_(True)
        self.table.cluster_size.zero_()
        self.table.embed_avg.zero_()
        self._replace_dead(rows_NK)

    @torch.no_grad()
    def _learn(self, rows_NK: Tensor, indices_N: Tensor) -> None:
        counts_C = torch.bincount(indices_N, minlength=self.size).to(rows_NK.dtype)
        sums_CK = rows_NK.new_zeros(self.all_codes.shape).index_add_(0, indices_N, rows_NK)
        self.table.cluster_size.lerp_(counts_C[None], 1 - self.options.decay)
        self.table.embed_avg.lerp_(sums_CK[None], 1 - self.options.decay)
        self.table.update_ema()
        self._replace_dead(rows_NK)

    def _replace_dead(self, rows_NK: Tensor) -> None:
        """Put random rows in the place of codes that are hardly used, counted as used by an equal share."""
        equal_share = len(rows_NK) / self.size
        self.table.threshold_ema_dead_code = self.options.dead_code_share * equal_share
        self.table.reset_cluster_size = equal_share
        with same_random_numbers(rows_NK.device):
            self.table.expire_codes_(rows_NK[None])


@torch.no_grad()
def nearest(rows_NK: Tensor, codes_CK: Tensor) -> Tensor:
    """Return the index of the code with the smallest Euclidean distance to each row, (N,) int64, without a
    table of all distances.

    Among equals the first. Codes of norm one: the one with the largest cosine.
    """
    rows_NK, codes_CK = rows_NK.float(), codes_CK.float()
    # |x - c|² orders codes as |c|²/2 - x·c does.
    half_norms_C = codes_CK.square().sum(dim=-1) / 2
    pieces = rows_NK.split(max(1, SCORES_AT_ONCE // len(codes_CK)))
    with torch.autocast(rows_NK.device.type, enabled=False):
        found = [torch.addmm(half_norms_C, piece_NK, codes_CK.mT, alpha=-1).argmin(-1) for piece_NK in pieces]
    return found[0] if len(found) == 1 else torch.cat(found)
