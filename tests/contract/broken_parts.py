"""Parts with weights that break their contract in one way each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavslm_core.parts.interfaces import Judgement, QuantizerOutput, State
from wavslm_core.parts.lengths import zero_padding
from wavslm_core.testing.fakes import FakeBackbone, FakeDecoder, FakeDiscriminator, FakeEncoder, FakeQuantizer


class SeesNextFrame(FakeEncoder):
    def forward(self, waveform_BS: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        features_BTD = super().forward(waveform_BS, lengths=lengths)
        return features_BTD + features_BTD.roll(-1, dims=1)


class HearsPadding(FakeEncoder):
    """Subtracts the mean over time, padding included."""

    def forward(self, waveform_BS: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return super().forward(waveform_BS - waveform_BS.mean(1, keepdim=True), lengths=lengths)

    def init_state(self, batch_size: int) -> State:
        raise self.no_streaming()


class HearsBatch(FakeEncoder):
    """Subtracts the mean over the batch."""

    def forward(self, waveform_BS: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        waveform_BS = zero_padding(waveform_BS[..., None], lengths)[..., 0]
        return super().forward(waveform_BS - 0.1 * waveform_BS.mean(0, keepdim=True), lengths=lengths)


class LeavesWeightAlone(FakeEncoder):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.unused = nn.Parameter(torch.zeros(3))


class CannotBePacked(FakeEncoder):
    """Reads the weight of a linear that packing replaces."""

    def forward(self, waveform_BS: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        waveform_BS = zero_padding(waveform_BS[..., None], lengths)[..., 0]
        hop = self.config.hop_samples
        padded = F.pad(waveform_BS, (0, -waveform_BS.shape[1] % hop)).unflatten(1, (-1, hop))
        return F.linear(padded, self.linear.weight, self.linear.bias)


class CancelsInBf16(FakeEncoder):
    def forward(self, waveform_BS: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return (super().forward(waveform_BS, lengths=lengths) + 500) - 500


class CannotBeExported(FakeEncoder):
    """Branches on a value."""

    def forward(self, waveform_BS: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        features_BTD = super().forward(waveform_BS, lengths=lengths)
        return features_BTD if float(features_BTD.detach().sum()) < 1e9 else -features_BTD


class ReadsItsState(FakeEncoder):
    """Counts its steps, and branches on the count."""

    def init_state(self, batch_size: int) -> State:
        return (torch.zeros((), dtype=torch.int64),)

    def step(self, waveform_BS: Tensor, state: State) -> tuple[Tensor, State]:
        features_BTD = self(waveform_BS)
        return features_BTD if int(state[0].max()) >= 0 else -features_BTD, (state[0] + 1,)


class ForgetsATensor(FakeEncoder):
    """Keeps a tensor as a mere attribute, which is not moved with the module."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.scale = torch.full((config.dim,), 1.5)

    def forward(self, waveform_BS: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        scale = self.scale.to("meta") if waveform_BS.is_meta else self.scale
        return super().forward(waveform_BS, lengths=lengths) * scale


class KeepsItsStateOnCpu(FakeBackbone):
    """Its state goes back and forth."""

    def init_state(self, batch_size: int) -> State:
        return (torch.zeros(1, batch_size, self.config.dim),)

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        hidden_BTD, (last,) = super().step(inputs, (state[0].to(inputs.device),))
        return hidden_BTD, (last.cpu(),)


class CountsOnCpu(FakeBackbone):
    """Brings numbers from the CPU at every step."""

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        hidden_BTD, state = super().step(inputs, state)
        return hidden_BTD + torch.ones(self.config.dim).to(hidden_BTD.device), state


class TakesMemoryOnMeta(FakeEncoder):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.register_buffer("table", torch.ones(4, device="cpu"))


class KeepsSecret(FakeEncoder):
    """Has a random scale that is not saved."""

    scale: Tensor

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.register_buffer("scale", torch.rand(()) + 0.5, persistent=False)

    def forward(self, waveform_BS: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return super().forward(waveform_BS, lengths=lengths) * self.scale


class Ignores(FakeDecoder):
    """Gives the same waveform for everything."""

    def forward(self, features_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return super().forward(features_BTD * 0)


class LearnsInInference(FakeQuantizer):
    """Counts what it encodes, in what is saved."""

    count: Tensor

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.register_buffer("count", torch.zeros(()))

    def encode(self, features_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        self.count.add_(1)
        return super().encode(features_BTD, lengths=lengths)


class ReconstructsOtherwise(FakeQuantizer):
    """Trains on latents that are not rounded."""

    def forward(
        self, features_BTD: Tensor, *, lengths: Tensor | None = None, bypass_codes: bool = False
    ) -> QuantizerOutput:
        output = super().forward(features_BTD, lengths=lengths, bypass_codes=bypass_codes)
        output.features_BTD = output.features_BTD * 1.01
        return output


class LosesPadding(FakeQuantizer):
    """Its loss is taken over padding too."""

    def forward(
        self, features_BTD: Tensor, *, lengths: Tensor | None = None, bypass_codes: bool = False
    ) -> QuantizerOutput:
        return super().forward(features_BTD, bypass_codes=bypass_codes)


class OneToken(FakeQuantizer):
    def encode(self, features_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return super().encode(features_BTD) * 0


class CountsFromOne(FakeQuantizer):
    """Its ids are those of runs of two frames."""

    def encode(self, features_BTD: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return super().encode(features_BTD) + 1

    def decode(self, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return super().decode(tokens_BT) - 1.0


class ForgetsDurations(FakeQuantizer):
    """Leaves out repeated tokens and with them how many there were."""

    def compact(self, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        merged_BU, sizes_B = super().compact(tokens_BT, lengths=lengths)
        return merged_BU - merged_BU % self.config.max_run, sizes_B


class HidesDurations(FakeQuantizer):
    def decode(self, tokens_BT: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return super().decode(tokens_BT - tokens_BT % self.config.max_run)


class GrowingState(FakeBackbone):
    """Keeps everything it was given."""

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        hidden_BTD, (last,) = super().step(inputs, state[:1])
        return hidden_BTD, (last, *state[1:], inputs)


class GrowingStorage(FakeBackbone):
    """Gives a view of the last of all states that it keeps."""

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        hidden_BTD, (last,) = super().step(inputs, state)
        kept = state[0].untyped_storage().nbytes() // (last.numel() * last.element_size())
        grown = last.new_zeros(kept + 1, *last.shape)
        grown[-1] = last
        return hidden_BTD, (grown[-1],)


class RemembersInModule(FakeBackbone):
    """Keeps one stream's memory in itself."""

    memory: Tensor

    def init_state(self, batch_size: int) -> State:
        self.memory = super().init_state(batch_size)[0]
        return (self.memory,)

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        if self.memory.shape != state[0].shape:
            self.memory = torch.zeros_like(state[0])
        hidden_BTD, (self.memory,) = super().step(inputs, (self.memory,))
        return hidden_BTD, (self.memory,)


class CountsForAll(FakeBackbone):
    """Adds the time, and takes that of the first row for the time of all."""

    def forward(self, inputs: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return super().step(inputs, super().init_state(len(inputs)))[0] + self._time(inputs)

    def init_state(self, batch_size: int) -> State:
        return (*super().init_state(batch_size), torch.zeros((), dtype=torch.int64))

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        last, position = state
        hidden_BTD, (last,) = super().step(inputs, (last,))
        return hidden_BTD + 0.01 * position.view(-1)[0] + self._time(inputs), (
            last,
            position + inputs.shape[1],
        )

    def _time(self, inputs: Tensor) -> Tensor:
        return 0.01 * torch.arange(inputs.shape[1], device=inputs.device)[:, None]


class RemembersEverything(FakeBackbone):
    """Adds up all that it was given."""

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        sums_BTD = self.gru(inputs)[0].cumsum(1) + state[0][0, :, None]
        return sums_BTD, (sums_BTD[:, -1][None],)


class SeesBothWays(FakeBackbone):
    def forward(self, inputs: Tensor, *, lengths: Tensor | None = None) -> Tensor:
        return super().forward(inputs) + super().forward(inputs.flip(1)).flip(1)


class NeedsLong(FakeDiscriminator):
    def forward(self, waveform_BS: Tensor) -> list[Judgement]:
        return super().forward(F.pad(waveform_BS, (0, 7), "reflect"))


class JudgesBatch(FakeDiscriminator):
    def forward(self, waveform_BS: Tensor) -> list[Judgement]:
        return super().forward(waveform_BS - waveform_BS.mean())


class TellsNothing(FakeDiscriminator):
    def forward(self, waveform_BS: Tensor) -> list[Judgement]:
        return super().forward(waveform_BS.detach())
