"""Binary spherical quantisation: latents on the unit sphere, one bit per dimension (Zhao et al. 2024).

No parameters: a token is the signs of a latent read as a binary number, most significant bit first.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from wavslm_core.plugin import mean_of_all


def code_scale(bits: int) -> float:
    """Return the magnitude of every entry of a code: codes have norm one."""
    return bits**-0.5


def _bit_weights(bits: int, device: torch.device) -> Tensor:
    return torch.arange(bits - 1, -1, -1, device=device)


def tokens_from_latents(latents_BTK: Tensor) -> Tensor:
    """Return token ids (B,T) int64 of latents (B,T,K bits)."""
    shifts_K = _bit_weights(latents_BTK.shape[-1], latents_BTK.device)
    return ((latents_BTK > 0).long() << shifts_K).sum(dim=-1)


def codes_from_tokens(tokens_BT: Tensor, *, bits: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return codes (B,T,K bits) with entries ±1/√K."""
    signs_BTK = (tokens_BT[..., None] >> _bit_weights(bits, tokens_BT.device)) & 1
    # The scale is rounded to the dtype once and multiplied: dividing by √K differs by an ulp.
    return (2 * signs_BTK - 1).to(dtype) * code_scale(bits)


def straight_through(latents_BTK: Tensor) -> Tensor:
    """Return the codes of normalised latents; the gradient passes as if nothing had been rounded."""
    bits = latents_BTK.shape[-1]
    codes_BTK = torch.where(latents_BTK > 0, code_scale(bits), -code_scale(bits)).to(latents_BTK.dtype)
    return latents_BTK + (codes_BTK - latents_BTK).detach()


def entropy_loss(latents_NK: Tensor, *, inverse_temperature: float, group_bits: int) -> Tensor:
    """Return entropy per latent minus entropy of the batch, in nats: low when sure and diverse.

    Soft assignment p(code | latent) ∝ exp(−τ‖latent − code‖²). Per latent it factorises over bits exactly.
    Over the batch, the joint usage of up to `group_bits` bits is counted (2^group_bits probabilities per
    latent) and groups are taken as independent, so 65 536 codes cost two tables of 256. The batch is that of
    all processes that train together.
    """
    bits = latents_NK.shape[-1]
    logits_NK = 4.0 * inverse_temperature * code_scale(bits) * latents_NK.float()
    log_on_NK, log_off_NK = F.logsigmoid(logits_NK), F.logsigmoid(-logits_NK)
    entropy_NK = -(log_on_NK.exp() * log_on_NK + log_off_NK.exp() * log_off_NK)
    per_latent = entropy_NK.sum(dim=-1).mean()
    groups = -(-bits // group_bits)
    batch = latents_NK.new_zeros((), dtype=torch.float32)
    for on_NG, off_NG in zip(
        log_on_NK.tensor_split(groups, dim=-1), log_off_NK.tensor_split(groups, dim=-1), strict=True
    ):
        width = on_NG.shape[-1]
        codes_C = torch.arange(1 << width, device=latents_NK.device)
        table_CG = ((codes_C[:, None] >> torch.arange(width, device=latents_NK.device)) & 1).float()
        # Log-probabilities go down to hundreds: bf16 products of them would mean nothing.
        with torch.autocast(latents_NK.device.type, enabled=False):
            usage_C = (on_NG @ table_CG.T + off_NG @ (1 - table_CG).T).exp().mean(dim=0)
        usage_C = mean_of_all(usage_C, count=len(latents_NK))
        batch = batch - torch.special.xlogy(usage_C, usage_C.clamp(min=1e-12)).sum()
    return per_latent - batch


def commitment_loss(latents_NK: Tensor) -> Tensor:
    """Return the mean squared distance of normalised latents to their codes."""
    scale = code_scale(latents_NK.shape[-1])
    return (latents_NK.abs() - scale).square().sum(dim=-1).mean()
