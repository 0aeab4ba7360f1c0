"""How gradients pass from codes to the latents that were rounded to them."""

from __future__ import annotations

from torch import Tensor
from vector_quantize_pytorch.vector_quantize_pytorch import rotate_to

from wavslm_vector_quantize.codebook_configs import Gradient


def pass_gradient(latents_NK: Tensor, codes_NK: Tensor, how: Gradient = "straight_through") -> Tensor:
    """Return the codes (N,K), with gradients to the latents alone."""
    if how == "rotation" and latents_NK.requires_grad and len(latents_NK):
        rotated_NK: Tensor = rotate_to(latents_NK, codes_NK.detach())
        return rotated_NK
    return latents_NK + (codes_NK - latents_NK).detach()
