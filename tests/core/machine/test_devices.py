"""The option `--device`, on a machine that may or may not have a GPU."""

import pytest
import torch

from wavslm_core.cli.inputs import usable_device
from wavslm_core.errors import WavslmError
from wavslm_core.machine.devices import choose_device


@pytest.mark.parametrize(
    ("gpus", "apple", "found"), [(0, False, "cpu"), (0, True, "cpu"), (2, False, "cuda"), (2, True, "cuda")]
)
def test_auto_is_the_first_cuda_gpu_else_the_cpu_for_recipes_and_commands_alike(
    gpus: int, apple: bool, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
    assert usable_device("auto") == torch.device(found)
    assert choose_device("auto", option="launch.device") == torch.device(found)
    assert usable_device("cpu") == torch.device("cpu")
    assert choose_device("auto", option="launch.device", alone=False) == torch.device(found)
    # Apple's GPU has to be asked for, and several processes cannot share the one that there is.
    if apple:
        assert usable_device("mps") == torch.device("mps")
        with pytest.raises(WavslmError, match=r"mps, but PyTorch sees none here\. Usable: auto, cpu"):
            choose_device("mps", option="launch.device", alone=False)


def test_what_works_on_the_cpu_only_makes_auto_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert usable_device("auto") == torch.device("cuda")
    assert usable_device("cuda:1") == torch.device("cuda:1")
    assert usable_device("auto", cpu_only="--weights int8") == torch.device("cpu")
    with pytest.raises(WavslmError, match="--weights int8 works on the CPU only, but --device is cuda"):
        usable_device("cuda", cpu_only="--weights int8")
    with pytest.raises(WavslmError, match="--device is cuda:2, but PyTorch sees none here"):
        usable_device("cuda:2")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cude", "--device cude is no device. Did you mean 'cuda'? Allowed: auto, cpu, cuda,"),
        ("cuda:x", "--device cuda:x is no device. Allowed"),
        ("", "--device  is no device"),
        ("meta", "--device meta is no device"),
        ("cuda:99", "--device is cuda:99, but PyTorch sees none here. Usable: auto, cpu"),
    ],
)
def test_what_is_no_device_here(name: str, said: str) -> None:
    with pytest.raises(WavslmError) as caught:
        usable_device(name)
    assert said in str(caught.value)
