"""Attention with a gated relative position bias: whole sequences in blocks, streams over ring caches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wavslm_core.plugin import State
from wavslm_wavlm.blocks import Plan, Whole
from wavslm_wavlm.scores import attend


@dataclass(frozen=True)
class Ring:
    """Where a step stands in the ring caches; computed once per step and shared by all layers."""

    position: int | Tensor
    """Frames that came before this step; a tensor where steps are traced."""
    chunk: int
    window: int
    bias_HCN: Tensor
    """Bias of a chunk against its window in order of time, the window twice in a row: (H, C, 2W). A ring is a
    rotation of its window, so the bias in ring order is a slice of this and never computed."""
    traced: tuple[tuple[Tensor, Tensor], ...] = ()
    """Of each chunk of a traced step, what `place` gives."""

    def place(self, offset: int) -> tuple[Tensor, Tensor]:
        """Return where the chunk at `offset` in this step is written, (C,), and its bias (H, C, W).

        In ring order, −inf in slots that are not filled yet.
        """
        position, device = torch.as_tensor(self.position + offset), self.bias_HCN.device
        end = position + self.chunk
        slots_W = torch.arange(self.window, device=device)
        bias_HCW = self.bias_HCN.index_select(2, self.window - end % self.window + slots_W)
        written_C = (position + torch.arange(self.chunk, device=device)) % self.window
        return written_C, bias_HCW.masked_fill(slots_W >= end, -torch.inf)

    def slots(self, position: int) -> tuple[int, int]:
        """Return where the chunk at `position` is written, and how many slots are filled afterwards."""
        return position % self.window, min(position + self.chunk, self.window)

    def bias(self, position: int) -> Tensor:
        """Return the bias (H, C, filled) of the chunk at `position` against the ring's filled slots."""
        end = position + self.chunk
        if end <= self.window:
            return self.bias_HCN[..., self.window - end : self.window]
        start = self.window - end % self.window
        return self.bias_HCN[..., start : start + self.window]


@dataclass(frozen=True)
class Place:
    """Where the next chunk of each row is written in its ring, and what it sees there."""

    written_BC: Tensor
    bias_BHCF: Tensor
    """In ring order, of the F slots that a row has filled at most."""
    missing_B11F: Tensor | None
    """−inf where a row has not filled a slot yet; None where all have."""

    def write(self, keys_BHdW: Tensor, values_BHWd: Tensor, keys: Tensor, values: Tensor) -> None:
        """Write a chunk (B,H,C,d) of each into the rings."""
        places = self.written_BC[:, None, None]
        keys_BHdW.scatter_(3, places.expand(-1, *keys_BHdW.shape[1:3], -1), keys.mT)
        values_BHWd.scatter_(2, places.mT.expand(-1, *values.shape[1:2], -1, values.shape[3]), values)

    def bias(self, gate_BHC1: Tensor) -> Tensor:
        """Return the bias (B,H,C,F) of queries with that gate."""
        if self.missing_B11F is None:
            return gate_BHC1 * self.bias_BHCF
        return torch.addcmul(self.missing_B11F, gate_BHC1, self.bias_BHCF)


@dataclass(frozen=True)
class RowRing:
    """Where a step of rows at different positions stands; computed once per step and shared by all layers."""

    places: list[Place]
    """Of each chunk of the step."""
    chunk: int

    @classmethod
    def at(cls, positions: list[int], chunks: int, chunk: int, window: int, bias_HCN: Tensor) -> RowRing:
        """`bias_HCN`: as in `Ring`."""
        device, places = bias_HCN.device, []
        for number in range(chunks):
            start_B1 = torch.tensor(positions)[:, None] + number * chunk
            end_B1 = start_B1 + chunk
            written_BC = (start_B1 + torch.arange(chunk)) % window
            slots_F = torch.arange(min(window, int(end_B1.max())))
            missing_BF = slots_F >= end_B1
            first_B1 = window - end_B1 % window
            bias_HCBF = bias_HCN[:, :, (first_B1 + slots_F).to(device)]
            missing_B11F = None
            if bool(missing_BF.any()):
                missing_B11F = bias_HCN.new_zeros(missing_BF.shape)
                missing_B11F = missing_B11F.masked_fill(missing_BF.to(device), -torch.inf)[:, None, None]
            bias_BHCF = bias_HCBF.permute(2, 0, 1, 3).contiguous()
            places.append(Place(written_BC.to(device), bias_BHCF, missing_B11F))
        return cls(places, chunk)


class GatedAttention(nn.Module):
    """Multi-head attention whose relative position bias is scaled by a gate that each query computes."""

    state_tensors = 2

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.dim = dim
        self.num_heads = num_heads
        self.qkv_proj: nn.Module = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)
        self.gru_rel_pos_linear: nn.Module = nn.Linear(dim // num_heads, 8)
        self.gru_rel_pos_const = nn.Parameter(torch.ones(1, num_heads, 1, 1))
        self.joined: nn.Module | None = None

    def join_products(self) -> None:
        """Make one linear of queries, keys, values and the two numbers of each head that gates come from."""
        qkv, gates = self.qkv_proj, self.gru_rel_pos_linear
        if not (isinstance(qkv, nn.Linear) and isinstance(gates, nn.Linear)):
            return
        # Each head's gates see its own part of the input: a block of a matrix that is zero elsewhere.
        block_2d = gates.weight.detach().unflatten(0, (2, 4)).sum(1)
        bias_2 = gates.bias.detach().unflatten(0, (2, 4)).sum(1)
        with torch.device("meta"):
            joined = nn.Linear(self.dim, 3 * self.dim + 2 * self.num_heads)
        weight_ED = torch.cat([qkv.weight.detach(), torch.block_diag(*[block_2d] * self.num_heads)])
        joined.weight = nn.Parameter(weight_ED, requires_grad=False)
        bias_E = torch.cat([qkv.bias.detach(), bias_2.repeat(self.num_heads)])
        joined.bias = nn.Parameter(bias_E, requires_grad=False)
        self.joined = joined
        self.qkv_proj, self.gru_rel_pos_linear = nn.Identity(), nn.Identity()

    def forward(self, x_BTD: Tensor, *, table_HQN: Tensor, plan: Plan | Whole) -> Tensor:
        """Map (B,T,D) to (B,T,D)."""
        queries, keys, values, gate_BHT1 = self._heads(x_BTD)
        gathered_BHTd = attend(
            queries.contiguous(),
            keys.contiguous(),
            values.contiguous(),
            gate_BHT1=gate_BHT1,
            table_HQN=table_HQN,
            plan=plan,
        )
        output: Tensor = self.out_proj(gathered_BHTd.transpose(1, 2).flatten(2))
        return output

    def init_state(self, batch_size: int, window: int) -> State:
        """Return ring caches of keys (B,H,d,W) and values (B,H,W,d).

        Keys lie transposed: a chunk's product with the ring then reads memory in order.
        """
        width = self.dim // self.num_heads
        like = self.gru_rel_pos_const
        return (
            like.new_zeros(batch_size, self.num_heads, width, window),
            like.new_zeros(batch_size, self.num_heads, window, width),
        )

    def step(self, x_BND: Tensor, state: State, ring: Ring | RowRing) -> tuple[Tensor, State]:
        """Map the next whole chunks (B, n·C, D) to (B, n·C, D), writing into the caches."""
        keys_BHdW, values_BHWd = state
        queries, keys, values, gate_BHN1 = self._heads(x_BND)
        outputs = []
        for offset in range(0, x_BND.shape[1], ring.chunk):
            chunk = slice(offset, offset + ring.chunk)
            if isinstance(ring, RowRing):
                place = ring.places[offset // ring.chunk]
                place.write(keys_BHdW, values_BHWd, keys[:, :, chunk], values[:, :, chunk])
                filled = place.bias_BHCF.shape[3]
                outputs.append(
                    _attend_ring(
                        queries[:, :, chunk],
                        keys_BHdW[..., :filled],
                        values_BHWd[:, :, :filled],
                        place.bias(gate_BHN1[:, :, chunk]),
                    )
                )
                continue
            if ring.traced:
                written_C, bias_HCW = ring.traced[offset // ring.chunk]
                keys_BHdW = keys_BHdW.index_copy(3, written_C, keys[:, :, chunk].mT)
                values_BHWd = values_BHWd.index_copy(2, written_C, values[:, :, chunk])
                bias = gate_BHN1[:, :, chunk] * bias_HCW
                outputs.append(_attend_ring(queries[:, :, chunk], keys_BHdW, values_BHWd, bias))
                continue
            position = int(ring.position) + offset
            slot, filled = ring.slots(position)
            head = min(ring.chunk, ring.window - slot)
            for source, target in ((0, slot), (head, 0))[: 1 if head == ring.chunk else 2]:
                count = head if source == 0 else ring.chunk - head
                piece = slice(offset + source, offset + source + count)
                keys_BHdW[..., target : target + count] = keys[:, :, piece].mT
                values_BHWd[:, :, target : target + count] = values[:, :, piece]
            outputs.append(
                _attend_ring(
                    queries[:, :, chunk],
                    keys_BHdW[..., :filled],
                    values_BHWd[:, :, :filled],
                    gate_BHN1[:, :, chunk] * ring.bias(position),
                )
            )
        gathered_BHNd = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
        output: Tensor = self.out_proj(gathered_BHNd.transpose(1, 2).flatten(2))
        return output, (keys_BHdW, values_BHWd)

    def _heads(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each (B,H,T,d), and the factor (B,H,T,1) fp32 on the bias."""
        if self.joined is None:
            qkv = self.qkv_proj(x_BTD)
            pairs_BTH8 = self.gru_rel_pos_linear(x_BTD.unflatten(-1, (self.num_heads, -1)))
            pairs_BTH2 = pairs_BTH8.float().unflatten(-1, (2, 4)).sum(-1)
        else:
            qkv, pairs = self.joined(x_BTD).split([3 * self.dim, 2 * self.num_heads], dim=-1)
            pairs_BTH2 = pairs.float().unflatten(-1, (self.num_heads, 2))
        first, second = pairs_BTH2.sigmoid().transpose(1, 2).unbind(-1)
        gate_BHT = first * (second * self.gru_rel_pos_const[..., 0].float() - 1.0) + 2.0
        queries, keys, values = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return queries, keys, values, gate_BHT[..., None]


def _attend_ring(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
    """Return softmax(q·k/√d + bias)·v for queries (B,H,C,d), keys (B,H,d,W), values (B,H,W,d)."""
    batch, heads, _, width = queries.shape
    scores = torch.baddbmm(bias.flatten(0, 1), queries.flatten(0, 1), keys.flatten(0, 1), alpha=width**-0.5)
    gathered = torch.bmm(scores.softmax(-1), values.flatten(0, 1))
    return gathered.unflatten(0, (batch, heads))
