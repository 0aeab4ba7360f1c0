"""The networks over the tokens inside a chunk: place after place equals all places at once."""

import pytest
import torch

from wavslm_heads.inner import Inner, InnerGru, InnerTransformer


@pytest.mark.parametrize(
    "inner",
    [
        InnerGru(8, layers=1),
        InnerGru(8, layers=2),
        InnerTransformer(8, layers=1, num_heads=2, chunk_tokens=16),
        InnerTransformer(8, layers=3, num_heads=4, chunk_tokens=16),
    ],
)
@pytest.mark.parametrize("size", [1, 4, 16])
def test_steps_equal_forward(inner: Inner, size: int) -> None:
    x_NCE = torch.randn(3, size, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        state = inner.init_state(x_NCE[:, 0])
        shapes = [part.shape for part in state]
        steps = []
        for place in range(size):
            y_NE, state = inner.step(x_NCE[:, place], state, place=place)
            steps.append(y_NE)
        assert [part.shape for part in state] == shapes
        assert torch.allclose(torch.stack(steps, dim=1), inner(x_NCE), atol=1e-5)


def test_the_gru_is_the_usual_one() -> None:
    inner = InnerGru(8, layers=1)
    usual = torch.nn.GRU(8, 8, batch_first=True)
    (layer,) = inner.layers
    usual.load_state_dict(
        {
            "weight_ih_l0": layer.input.weight,
            "weight_hh_l0": layer.recurrent.weight,
            "bias_ih_l0": layer.input.bias,
            "bias_hh_l0": layer.recurrent.bias,
        }
    )
    x_NCE = torch.randn(3, 5, 8)
    assert torch.allclose(inner(x_NCE), x_NCE + usual(x_NCE, layer.initial_E.expand(1, 3, -1))[0], atol=1e-6)
