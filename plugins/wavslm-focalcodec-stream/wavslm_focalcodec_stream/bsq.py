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
    """Return what each bit of a token is worth, (K,) int64: ONNX has products, but no shifts."""
    return torch.pow(2, torch.arange(bits - 1, -1, -1, device=device))


def tokens_from_latents(latents_BTK: Tensor) -> Tensor:
    """Return token ids (B,T) int64 of latents (B,T,K bits)."""
    weights_K = _bit_weights(latents_BTK.shape[-1], latents_BTK.device)
    return ((latents_BTK > 0) * weights_K).sum(dim=-1)


def codes_from_tokens(tokens_BT: Tensor, *, bits: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return codes (B,T,K bits) with entries ±1/√K."""
    signs_BTK = tokens_BT[..., None] // _bit_weights(bits, tokens_BT.device) % 2
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
    Over the batch, the joint usage of up to `group_bits` bits is counted. Groups are taken as independent,
    which can only overrate the entropy; with all bits in one group it is exact. The batch is that of all
    processes that train together.
    """
    bits = latents_NK.shape[-1]
    logits_NK = 4.0 * inverse_temperature * code_scale(bits) * latents_NK.float()
    log_on_NK, log_off_NK = F.logsigmoid(logits_NK), F.logsigmoid(-logits_NK)
    entropy_NK = -(log_on_NK.exp() * log_on_NK + log_off_NK.exp() * log_off_NK)
    per_latent = entropy_NK.sum(dim=-1).mean()
    groups = -(-bits // group_bits)
    batch = latents_NK.new_zeros((), dtype=torch.float32)
    for group_2NG in torch.stack([log_on_NK, log_off_NK]).tensor_split(groups, dim=-1):
        # Given a latent, bits are independent: the usage of 2ᴳ codes is one product of two tables of 2ᴳᐟ².
        with torch.autocast(latents_NK.device.type, enabled=False):
            high_NC, low_NC = (
                _codes_given_latents(half_2NH) for half_2NH in group_2NG.tensor_split(2, dim=-1)
            )
            usage_CC = high_NC.T @ low_NC / len(latents_NK)
        usage_CC = mean_of_all(usage_CC, count=len(latents_NK))
        batch = batch - torch.special.xlogy(usage_CC, usage_CC.clamp(min=1e-12)).sum()
    return per_latent - batch


def _codes_given_latents(log_2NH: Tensor) -> Tensor:
    """Return p(bits | latent) (N, 2ᴴ) of every combination of H bits, given log p(on) and log p(off)."""
    log_on_NH, log_off_NH = log_2NH
    bits_H = torch.arange(log_on_NH.shape[-1], device=log_2NH.device)
    codes_C = torch.arange(1 << len(bits_H), device=log_2NH.device)
    table_HC = ((codes_C >> bits_H[:, None]) & 1).float()
    # Log-probabilities go down to hundreds: products of them in bf16 would mean nothing.
    return (log_on_NH @ table_HC + log_off_NH @ (1 - table_HC)).exp()


def commitment_loss(latents_NK: Tensor) -> Tensor:
    """Return the mean squared distance of normalised latents to their codes."""
    scale = code_scale(latents_NK.shape[-1])
    return (latents_NK.abs() - scale).square().sum(dim=-1).mean()
