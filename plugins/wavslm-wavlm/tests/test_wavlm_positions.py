"""The bias table: every column is the bias of its offset, and buckets are the transformers library's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from wavslm_wavlm.positions import bias_by_offset, bias_table, relative_buckets


def test_table_holds_the_bias_of_each_offset() -> None:
    weight = torch.randn(12, 2)
    table = bias_table(weight, rows=5, before=9, after=4, num_buckets=12, max_distance=30)
    assert table.shape == (2, 5, 14)
    for row in range(5):
        for column in range(14):
            offset = column - 9 - row
            expected = bias_by_offset(weight, first=offset, last=offset, num_buckets=12, max_distance=30)
            torch.testing.assert_close(table[:, row, column], expected[:, 0])


@pytest.mark.parametrize(("num_buckets", "max_distance"), [(320, 800), (40, 80)])
def test_buckets_are_those_of_transformers(make_oracle: Any, num_buckets: int, max_distance: int) -> None:
    oracle = make_oracle("large", num_buckets=num_buckets, max_bucket_distance=max_distance)
    attention = oracle.encoder.layers[0].attention
    offsets = torch.arange(-3 * max_distance, 3 * max_distance)
    expected = attention._relative_positions_bucket(offsets)
    found = relative_buckets(offsets, num_buckets=num_buckets, max_distance=max_distance)
    assert torch.equal(found, expected)


def test_buckets_by_hand() -> None:
    offsets = torch.tensor([0, -1, -3, -4, -1000, 1, 3, 1000])
    found = relative_buckets(offsets, num_buckets=16, max_distance=32)
    assert found.tolist() == [0, 1, 3, 4, 7, 9, 11, 15]
