"""From speech to a prompt of whole chunks, and from a continuation back to speech."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wavslm_core.codec import Codec
from wavslm_core.data.audio import resample
from wavslm_core.errors import AudioError


def encode_prompt(
    codec: Codec, waveform_BS: Tensor, chunk_tokens: int, *, sample_rate: int, lengths: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Resample and encode prompts; return tokens (B,T) and lengths (B,), both whole chunks.

    `sample_rate` in Hz; `lengths` counts samples. Raises: AudioError when a prompt is shorter than one chunk.
    """
    rate = codec.sample_rate_in
    batch, size = waveform_BS.shape
    samples = torch.full((batch,), size, device=waveform_BS.device) if lengths is None else lengths
    resampled = resample(waveform_BS, sample_rate, rate)
    samples = (samples * rate // sample_rate).clamp(max=resampled.shape[1])
    tokens_BT = codec.encode(resampled, lengths=samples)
    chunk = prompt_unit(codec, chunk_tokens)
    token_lengths = codec.token_lengths(samples) // chunk * chunk
    if bool((token_lengths == 0).any()):
        chunk_ms = 1000 * chunk / codec.facts.token_rate_hz
        raise AudioError(f"a prompt must be at least one chunk ({chunk_ms:.0f} ms) long")
    return tokens_BT[:, : int(token_lengths.max())], token_lengths


def prompt_unit(codec: Codec, chunk_tokens: int) -> int:
    """Return the tokens that a prompt is a multiple of: whole chunks, and whole frames of several tokens."""
    return math.lcm(chunk_tokens, codec.facts.quantizer.tokens_per_frame)


def decode_continuation(codec: Codec, prompt_BT: Tensor, new_BT: Tensor, *, lengths: Tensor | None) -> Tensor:
    """Decode prompts and continuations together and cut the prompts off: (B, `samples_out(new)`).

    `lengths` counts the prompts' tokens.
    """
    size = codec.facts.samples_out(new_BT.shape[1])
    if size == 0:
        return torch.zeros(len(new_BT), 0, device=new_BT.device)
    if lengths is None:
        return codec.decode(torch.cat([prompt_BT, new_BT], dim=1))[:, -size:]
    rows = [
        decode_continuation(codec, prompt_BT[row : row + 1, :length], new_BT[row : row + 1], lengths=None)
        for row, length in enumerate(lengths.tolist())
    ]
    return torch.cat(rows)
