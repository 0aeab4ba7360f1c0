"""Small causal networks over the tokens inside a chunk: all places at once, or one after the other.

Suffixes: N rows (chunks of a batch), C places in a chunk, E width, G gates (3E), L layers, H attention
heads of width A.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.plugin import LinearGelu, State


class Inner(nn.Module, ABC):
    """`forward` over a chunk equals `step` over its places in order."""

    @abstractmethod
    def forward(self, x_NCE: Tensor) -> Tensor:
        """Map (N,C,E) to (N,C,E); no place sees a later one."""

    @abstractmethod
    def init_state(self, x_NE: Tensor) -> State:
        """Return the state before the first place, for inputs like `x_NE`."""

    @abstractmethod
    def step(self, x_NE: Tensor, state: State, *, place: int) -> tuple[Tensor, State]:
        """Map one place's (N,E) to (N,E)."""


class GruLayer(nn.Module):
    """A gated recurrent unit around which the input passes on."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.input = nn.Linear(dim, 3 * dim)
        self.recurrent = nn.Linear(dim, 3 * dim)
        self.initial_E = nn.Parameter(torch.empty(dim))
        nn.init.normal_(self.initial_E, std=dim**-0.5)

    def next(self, gates_NG: Tensor, state_NE: Tensor) -> Tensor:
        """Return the next state from the input's share of the gates (N,3E) and the state."""
        reset_in, update_in, new_in = gates_NG.chunk(3, dim=-1)
        reset_state, update_state, new_state = self.recurrent(state_NE).chunk(3, dim=-1)
        new_NE = torch.tanh(new_in + torch.sigmoid(reset_in + reset_state) * new_state)
        return new_NE + torch.sigmoid(update_in + update_state) * (state_NE - new_NE)


class InnerGru(Inner):
    """Recurrent layers: a loop over the places of a chunk, whatever the number of chunks."""

    def __init__(self, dim: int, *, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GruLayer(dim) for _ in range(layers))

    @property
    def _layers(self) -> Iterable[GruLayer]:
        return cast(Iterable[GruLayer], self.layers)

    def forward(self, x_NCE: Tensor) -> Tensor:
        for layer in self._layers:
            gates_NCG = layer.input(x_NCE)
            state_NE = layer.initial_E.expand_as(x_NCE[:, 0])
            states = []
            for place in range(x_NCE.shape[1]):
                state_NE = layer.next(gates_NCG[:, place], state_NE)
                states.append(state_NE)
            x_NCE = x_NCE + torch.stack(states, dim=1)
        return x_NCE

    def init_state(self, x_NE: Tensor) -> State:
        return (torch.stack([layer.initial_E.expand_as(x_NE) for layer in self._layers]),)

    def step(self, x_NE: Tensor, state: State, *, place: int) -> tuple[Tensor, State]:
        (states_LNE,) = state
        for number, layer in enumerate(self._layers):
            states_LNE[number] = layer.next(layer.input(x_NE), states_LNE[number])
            x_NE = x_NE + states_LNE[number]
        return x_NE, state


class TransformerLayer(nn.Module):
    """Attention and a feed-forward network, each after a normalisation and added to what came in."""

    def __init__(self, dim: int, *, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.ffn_norm = nn.LayerNorm(dim)
        self.ffn_in = LinearGelu(dim, 2 * dim)
        self.ffn_out = nn.Linear(2 * dim, dim)

    def qkv_heads(self, x_NCE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each (N,H,C,A)."""
        qkv_NCX = self.qkv(self.attention_norm(x_NCE))
        query, key, value = qkv_NCX.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return query, key, value

    def finish(self, x_NCE: Tensor, attended_NHCA: Tensor) -> Tensor:
        """Return the layer's output from its input and what attention gave."""
        x_NCE = x_NCE + self.attention_out(attended_NHCA.transpose(1, 2).flatten(2))
        return x_NCE + self.ffn_out(self.ffn_in(self.ffn_norm(x_NCE)))


class InnerTransformer(Inner):
    """Causal attention inside the chunk. State: all layers' keys and values, each (L,N,H,C,A)."""

    def __init__(self, dim: int, *, layers: int, num_heads: int, chunk_tokens: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(dim, num_heads=num_heads) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.num_heads = num_heads
        self.chunk_tokens = chunk_tokens

    @property
    def _layers(self) -> Iterable[TransformerLayer]:
        return cast(Iterable[TransformerLayer], self.layers)

    def forward(self, x_NCE: Tensor) -> Tensor:
        for layer in self._layers:
            query, key, value = layer.qkv_heads(x_NCE)
            x_NCE = layer.finish(x_NCE, F.scaled_dot_product_attention(query, key, value, is_causal=True))
        return self.norm(x_NCE)

    def init_state(self, x_NE: Tensor) -> State:
        rows, dim = x_NE.shape
        shape = (len(self.layers), rows, self.num_heads, self.chunk_tokens, dim // self.num_heads)
        return x_NE.new_zeros(shape), x_NE.new_zeros(shape)

    def step(self, x_NE: Tensor, state: State, *, place: int) -> tuple[Tensor, State]:
        x_N1E = x_NE[:, None]
        for layer, keys_NHCA, values_NHCA in zip(self._layers, *state, strict=True):
            query, key, value = layer.qkv_heads(x_N1E)
            keys_NHCA[:, :, place] = key[:, :, 0]
            values_NHCA[:, :, place] = value[:, :, 0]
            seen = slice(place + 1)
            attended_NH1A = F.scaled_dot_product_attention(
                query, keys_NHCA[:, :, seen], values_NHCA[:, :, seen]
            )
            x_N1E = layer.finish(x_N1E, attended_NH1A)
        return self.norm(x_N1E[:, 0]), state
