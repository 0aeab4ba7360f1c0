"""A head that models the tokens inside a chunk, from one step of the backbone for the whole chunk.

WavSLM's next-chunk head draws the C tokens of a chunk independently of each other, and speech falls apart as
C grows. Here p(chunk) = Π p(x_k | hidden states of the chunk before, the tokens before x_k), exactly:

    x_k's input   = A h_k + Z h_last + place_k + R [e(x_{k-1}), e(x_{k-2}), …]
    x_k's logits  = W [inner(inputs up to k), e(x_{k-1})] + b

h_k, the hidden state C places before x_k, leaves the backbone free to prepare each place; h_last has seen the
whole chunk even if the backbone goes token by token. e(x_{k-1}) goes to the logits directly too: a bigram
model of low rank in the same matrix product. The tokens before the chunk are known and are read like its own.
In training all chunks run side by side; only the GRU loops, over the C places.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.plugin import Draw, Head
from wavslm_heads.bit_output import BitOutput
from wavslm_heads.config import ChunkAutoregressiveConfig
from wavslm_heads.embeddings import BitEmbedding, DigitEmbedding
from wavslm_heads.heads import nothing_predicted, predicted_chunks, with_first_chunk
from wavslm_heads.inner import Inner, InnerGru, InnerTransformer
from wavslm_heads.outputs import LinearOutput, Output, TiedOutput


class ChunkAutoregressiveHead(Head[ChunkAutoregressiveConfig]):
    """Width E of the inner network; R: width of the tokens just before, embedded side by side."""

    def __init__(self, config: ChunkAutoregressiveConfig) -> None:
        super().__init__(config)
        dim, embedding_dim = config.dim, config.reading_dim
        self.recent_tokens = min(config.context_tokens, config.chunk_tokens)
        self.embedding = make_embedding(config)
        self.read = nn.Linear(self.recent_tokens * embedding_dim, dim, bias=False)
        self.by_place = nn.Linear(config.input_dim, dim, bias=False)
        self.by_chunk = nn.Linear(config.input_dim, dim)
        self.place_CE = nn.Parameter(torch.zeros(config.chunk_tokens, dim))
        self.inner = make_inner(config)
        self.output = make_output(config, self.embedding)
        self.dropout = nn.Dropout(config.dropout)

    def log_probs(self, hidden_BTD: Tensor, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        """Return log p(token | all tokens before it) in nats, (B,T); NaN in the first chunk."""
        batch, size = tokens_BT.shape
        chunk = self.config.chunk_tokens
        chunks = predicted_chunks(size, chunk)
        if chunks == 0:
            return nothing_predicted(tokens_BT)
        span, count = chunks * chunk, size - chunk
        # A ragged last chunk is filled up; nothing that is kept sees the filling.
        filled_BT = F.pad(tokens_BT, (0, span - count))
        recent_BTR = self._recent(filled_BT[:, chunk - self.recent_tokens : -1])
        given_NCE = self._given(hidden_BTD[:, :span].reshape(batch * chunks, chunk, -1))
        inner_NCE = self.inner(given_NCE + self.read(recent_BTR).view_as(given_NCE))
        states_BTE = torch.cat([inner_NCE.view(batch, span, -1), self._last(recent_BTR)], dim=-1)
        values_N = self.output.log_probs(
            self.dropout(states_BTE[:, :count]).flatten(0, 1), tokens_BT[:, chunk:].flatten()
        )
        return with_first_chunk(values_N.view(batch, count), tokens_BT, lengths)

    @torch.no_grad()
    def propose(self, hidden_BCD: Tensor, draw: Draw) -> Tensor:
        """Draw the next chunk (B,C) token by token."""
        given_BCE = self._given(hidden_BCD)
        known_BT = draw.before_BT[:, -self.recent_tokens :]
        state = self.inner.init_state(given_BCE[:, 0])
        for place in range(self.config.chunk_tokens):
            recent_B1R = self._recent(known_BT[:, -self.recent_tokens :])
            x_BE = given_BCE[:, place] + self.read(recent_B1R)[:, 0]
            inner_BE, state = self.inner.step(x_BE, state, place=place)
            states_B1E = torch.cat([inner_BE[:, None], self._last(recent_B1R)], dim=-1)
            known_BT = torch.cat([known_BT, self.output.draw(states_B1E, draw)], dim=1)
        return known_BT[:, -self.config.chunk_tokens :]

    def _given(self, hidden_NCD: Tensor) -> Tensor:
        """Return what the chunk before gives to each place, (N,C,E)."""
        return self.by_place(hidden_NCD) + self.by_chunk(hidden_NCD[:, -1:]) + self.place_CE

    def _recent(self, tokens_BT: Tensor) -> Tensor:
        """Embed each run of `recent_tokens` tokens, the last token first: (B, T - recent_tokens + 1, R)."""
        embedded_BTX = self.dropout(self.embedding(tokens_BT))
        runs = tokens_BT.shape[1] - self.recent_tokens + 1
        starts = range(self.recent_tokens - 1, -1, -1)
        return torch.cat([embedded_BTX[:, start : start + runs] for start in starts], dim=-1)

    def _last(self, recent_BTR: Tensor) -> Tensor:
        """Return the embedding of the last token of each run."""
        return recent_BTR[..., : self.config.reading_dim]


def make_embedding(config: ChunkAutoregressiveConfig) -> nn.Module:
    dim = config.reading_dim
    if config.reads == "bits":
        return BitEmbedding(config.vocab_size, dim)
    if config.reads == "digits":
        return DigitEmbedding(config.digits, dim)
    table = nn.Embedding(config.vocab_size, dim)
    # About unit length, for tied outputs: logits begin near zero.
    nn.init.normal_(table.weight, std=dim**-0.5)
    return table


def make_inner(config: ChunkAutoregressiveConfig) -> Inner:
    if config.inner == "gru":
        return InnerGru(config.dim, layers=config.layers)
    return InnerTransformer(
        config.dim, layers=config.layers, num_heads=config.num_heads, chunk_tokens=config.chunk_tokens
    )


def make_output(config: ChunkAutoregressiveConfig, embedding: nn.Module) -> Output:
    input_dim = config.dim + config.reading_dim
    if config.predicts == "bits":
        return BitOutput(input_dim, config.vocab_size, hidden_dim=config.bit_dim)
    if config.predicts == "tied":
        assert isinstance(embedding, nn.Embedding), "checked by the config"
        return TiedOutput(input_dim, embedding)
    return LinearOutput(input_dim, config.vocab_size)
