"""From speech to a prompt of whole chunks, and from a continuation back to speech."""

import math

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wavslm_core.data.arguments import Given, checked_lengths, checked_rate, checked_waveform, first_floats
from wavslm_core.data.audio import resample
from wavslm_core.errors import ArgumentError, AudioError
from wavslm_core.model.codec import Codec


def encode_prompt(
    codec: Codec, waveform_BS: Given, chunk_tokens: int, *, sample_rate: float, lengths: Given | None
) -> tuple[Tensor, Tensor]:
    """Resample and encode prompts; return tokens (B,T) and lengths (B,), both whole chunks.

    `sample_rate` in Hz; `lengths` counts samples. Raises: AudioError when a prompt is shorter than one chunk,
    or no waveform; ArgumentError for other lengths.
    """
    waveform_BS, samples = resampled(codec, waveform_BS, sample_rate=sample_rate, lengths=lengths)
    tokens_BT, token_lengths = codec.tokens(waveform_BS, lengths=samples)
    if codec.facts.quantizer.variable_rate:
        # Where a prompt is cut, its last run may still go on: how long it lasts is not known.
        token_lengths = (token_lengths - 1).clamp(min=0)
    chunk = prompt_unit(codec, chunk_tokens)
    token_lengths = token_lengths // chunk * chunk
    if bool((token_lengths == 0).any()):
        cut = ", besides the run in which it is cut" if codec.facts.quantizer.variable_rate else ""
        raise AudioError(f"a prompt must be at least one chunk ({chunk_in_words(codec, chunk)}) long{cut}")
    return tokens_BT[:, : int(token_lengths.max())], token_lengths


def resampled(
    codec: Codec, waveform_BS: Given, *, sample_rate: float, lengths: Given | None
) -> tuple[Tensor, Tensor]:
    """Return waveforms (B,S) at the rate that a codec hears, and how many samples each has (B,), one or more.

    Raises: AudioError, ArgumentError.
    """
    rate, sample_rate = codec.sample_rate_in, checked_rate(sample_rate)
    waveform_BS = checked_waveform(waveform_BS, like=first_floats(codec.encoder, codec))
    batch, size = waveform_BS.shape
    device = waveform_BS.device
    samples = checked_lengths(lengths, rows=batch, most=size, unit="samples", device=device)
    if samples is None:
        samples = torch.full((batch,), size, device=device)
    waveform_BS = resample(waveform_BS, sample_rate, rate)
    # At least one, so that what is shorter than a chunk is still named as that.
    return waveform_BS, (samples * rate // sample_rate).clamp(min=1, max=waveform_BS.shape[1])


def prompt_unit(codec: Codec, chunk_tokens: int) -> int:
    """Return the tokens that a prompt is a multiple of: whole chunks, and whole frames of several tokens."""
    return math.lcm(chunk_tokens, codec.facts.quantizer.tokens_per_frame)


def check_whole_prompt(tokens: int, chunk: int) -> None:
    """Raises: ArgumentError unless a prompt's tokens are whole chunks of the head, at least one."""
    if tokens == 0 or tokens % chunk:
        whole = tokens // chunk * chunk
        remedy = f"Cut it to {whole}" if whole else f"Give at least {chunk}"
        raise ArgumentError(
            f"a prompt must be whole chunks of {chunk} tokens, at least one; got {tokens} tokens. {remedy}"
        )


def chunk_in_words(codec: Codec, tokens: int) -> str:
    """Return how long that many tokens last; where runs are merged, how many there must be."""
    if codec.facts.quantizer.variable_rate:
        return f"{tokens} merged tokens"
    return f"{1000 * tokens / codec.facts.token_rate_hz:.0f} ms"


def decode_continuation(
    codec: Codec,
    prompt_BT: Given,
    new_BT: Given,
    *,
    lengths: Given | None = None,
    new_lengths: Given | None = None,
) -> Tensor:
    """Decode prompts and continuations together and cut the prompts off: (B,S).

    S is `samples_out(new)`; of merged tokens, the most of all items, silence where an item is shorter.
    `lengths` counts the prompts' tokens, `new_lengths` those of the continuations. Raises: ArgumentError.
    """
    prompt_BT, lengths = codec.checked_tokens(prompt_BT, lengths)
    new_BT, new_lengths = codec.checked_tokens(new_BT, new_lengths)
    if len(prompt_BT) != len(new_BT):
        raise ArgumentError(
            f"{len(prompt_BT)} prompts and {len(new_BT)} continuations were given; give one for each prompt"
        )
    if lengths is None and new_lengths is None and not codec.facts.quantizer.variable_rate:
        size = codec.facts.samples_out(new_BT.shape[1])
        if size == 0:
            return torch.zeros(len(new_BT), 0, device=new_BT.device)
        return codec.decode(torch.cat([prompt_BT, new_BT], dim=1))[:, -size:]
    prompt_sizes, new_sizes = (
        [tokens.shape[1]] * len(tokens) if counts is None else counts.tolist()
        for tokens, counts in ((prompt_BT, lengths), (new_BT, new_lengths))
    )
    pieces = []
    for row, (size, new_size) in enumerate(zip(prompt_sizes, new_sizes, strict=True)):
        prompt_1T, new_1T = prompt_BT[row : row + 1, :size], new_BT[row : row + 1, :new_size]
        start = int(codec.decoded_samples(prompt_1T))
        pieces.append(codec.decode(torch.cat([prompt_1T, new_1T], dim=1))[0, start:])
    return pad_sequence(pieces, batch_first=True)
