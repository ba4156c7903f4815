"""The choice of a device, from numbers alone."""

from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from logos_pl.errors import InputError
from logos_pl.lm.devices import DeviceMemory, choose_device, largest_micro_batch, measure_memory, memory_of_each
from logos_pl.lm.memory import GIB, StepSize
from tests.lm.model_shapes import LLAMA_8B, LLAMA_70B


def memory(
    cuda: float | None = None, mps: float | None = None, cpu: float = 64.0, bf16: bool = True
) -> list[DeviceMemory]:
    devices = [] if cuda is None else [DeviceMemory("cuda:0", int(cuda * GIB), int(cuda * GIB), bf16)]
    devices += [] if mps is None else [DeviceMemory("mps", int(mps * GIB), int(mps * GIB))]
    return [*devices, DeviceMemory("cpu", int(cpu * GIB), int(cpu * GIB))]


def test_cuda_comes_first_then_mps_then_cpu() -> None:
    assert str(choose_device(LLAMA_8B, memory(cuda=80, mps=80)).device) == "cuda:0"
    assert str(choose_device(LLAMA_8B, memory(cuda=12, mps=80)).device) == "mps"
    assert str(choose_device(LLAMA_8B, memory(cuda=12, mps=12)).device) == "cpu"


def test_the_choice_carries_the_dtype_of_its_device() -> None:
    assert choose_device(LLAMA_8B, memory(cuda=80)).dtype == torch.bfloat16
    assert choose_device(LLAMA_8B, memory(cuda=80, bf16=False)).dtype == torch.float16
    assert choose_device(LLAMA_8B, memory()).dtype == torch.float32
    assert choose_device(LLAMA_70B, memory(cpu=256)).dtype == torch.bfloat16


def test_a_model_that_fits_nowhere_is_refused_with_the_numbers() -> None:
    with pytest.raises(InputError) as caught:
        choose_device(LLAMA_70B, memory(cuda=22, cpu=15))
    message = str(caught.value)
    assert "the model (70.6B parameters) fits on no device here" in message
    assert "cuda:0 has 22 GiB free of the" in message
    assert "cpu has 15 GiB free of the" in message
    assert message.count("bfloat16") == 2
    assert caught.value.exit_status == 2


def test_an_override_is_obeyed_with_and_without_room() -> None:
    assert str(choose_device(LLAMA_8B, memory(cuda=80), override="cpu").device) == "cpu"
    assert str(choose_device(LLAMA_70B, memory(cuda=22), override="cuda").device) == "cuda:0"
    assert str(choose_device(LLAMA_8B, memory(cuda=80), override="auto").device) == "cuda:0"


def test_auto_streams_to_a_card_what_does_not_fit_on_it_before_the_cpu_and_what_fits_nowhere() -> None:
    def placed(**sizes: float) -> tuple[str, str]:
        choice = choose_device(LLAMA_70B, memory(**sizes), placement="auto", dtype=torch.bfloat16)
        return str(choice.device), choice.placement

    assert placed(cuda=200, cpu=64) == ("cuda:0", "resident")
    assert placed(cuda=24, cpu=64) == ("cuda:0", "streamed")
    assert placed(cuda=24, cpu=256) == ("cuda:0", "streamed")
    assert placed(cuda=4, cpu=256) == ("cpu", "resident")
    assert placed(cpu=64) == ("cpu", "streamed")
    assert placed(mps=200, cpu=64) == ("mps", "resident")
    assert placed(mps=24, cpu=64) == ("cpu", "streamed"), "a model is not streamed to mps"


def test_a_placement_that_is_named_is_kept() -> None:
    assert choose_device(LLAMA_8B, memory(cuda=80), placement="streamed").placement == "streamed"
    assert choose_device(LLAMA_70B, memory(cuda=24), override="cuda", placement="resident").placement == "resident"
    assert choose_device(LLAMA_70B, memory(cuda=24), override="cuda", placement="auto").placement == "streamed"
    assert choose_device(LLAMA_70B, memory(cuda=4), override="cuda", placement="auto").placement == "resident"
    with pytest.raises(InputError, match=r"streamed on cuda or cpu, but not on mps: give --model.placement resident"):
        choose_device(LLAMA_8B, memory(mps=80), override="mps", placement="streamed")


def test_auto_shards_over_the_processes_of_a_machine_what_does_not_fit_one() -> None:
    def placed(processes: int, **sizes: float) -> tuple[str, str, int | None]:
        choice = choose_device(LLAMA_70B, memory(**sizes), placement="auto", dtype=torch.bfloat16, processes=processes)
        return str(choice.device), choice.placement, choice.shards

    assert placed(4, cuda=200, cpu=64) == ("cuda:0", "resident", None)
    assert placed(4, cuda=80, cpu=64) == ("cuda:0", "sharded", 4)
    assert placed(8, cuda=40, cpu=64) == ("cuda:0", "sharded", 8)
    assert placed(2, cpu=128) == ("cpu", "sharded", 2)
    assert placed(1, cuda=80, cpu=64) == ("cuda:0", "streamed", None)
    with pytest.raises(InputError, match=r"cuda:0 has 24 GiB free of the 90 GiB needed in bfloat16, in 2 shards"):
        placed(2, cuda=24, cpu=16)


def test_a_sharded_model_takes_several_processes_and_no_mps() -> None:
    with pytest.raises(InputError, match=r"over several devices of a machine, but there is only one process: give"):
        choose_device(LLAMA_8B, memory(cuda=80), placement="sharded")
    with pytest.raises(InputError, match=r"can be sharded on cuda or cpu, but not on mps"):
        choose_device(LLAMA_8B, memory(mps=80), override="mps", placement="sharded", processes=2)
    assert choose_device(LLAMA_8B, memory(cuda=80), placement="sharded", processes=2).shards == 2


def test_a_block_that_does_not_fit_is_refused_with_the_numbers() -> None:
    with pytest.raises(InputError) as caught:
        choose_device(LLAMA_70B, memory(cuda=8), override="cuda", placement="streamed")
    message = str(caught.value)
    assert "the model (70.6B parameters) fits on no device here: cuda:0 has 8.0 GiB free of the" in message
    assert message.endswith("streamed 512 tokens at a time; free memory, use a smaller model.")


def test_a_group_is_as_large_as_device_and_host_allow_or_as_the_user_says() -> None:
    def group(**sizes: float) -> int | None:
        return choose_device(LLAMA_70B, memory(**sizes), placement="streamed", dtype=torch.bfloat16).group_tokens

    assert group(cuda=80, cpu=64) == 2**16
    assert 2**13 <= (group(cuda=20, cpu=64) or 0) <= 2**16
    assert (group(cpu=24) or 0) < 2**16
    named = choose_device(LLAMA_70B, memory(cuda=80), placement="streamed", group_tokens=12_345)
    assert named.group_tokens == 12_345
    assert choose_device(LLAMA_8B, memory(cuda=80)).group_tokens is None


def test_a_device_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="there is no device 'cuda' on this machine; choose among cpu, or `auto`"):
        choose_device(LLAMA_8B, memory(), override="cuda")


@pytest.mark.parametrize(("billion_bytes", "step_seqs", "wanted"), [
    (80, 32, 32), (24, 32, 8), (24, 24, 12), (24, 7, 7), (20, 32, 1), (80, 64, 32),
])  # fmt: skip
def test_the_micro_batch_is_the_largest_divisor_that_fits(billion_bytes: int, step_seqs: int, wanted: int) -> None:
    card = DeviceMemory("cuda:0", 0, billion_bytes * 10**9)
    step = StepSize(positions_per_seq=12, step_seqs=step_seqs)
    assert largest_micro_batch(LLAMA_8B, card, torch.bfloat16, step) == wanted
    assert choose_device(LLAMA_8B, [card], override="cuda", step=step).micro_batch_seqs == wanted


def test_a_named_micro_batch_and_format_are_kept_and_decide_on_the_device() -> None:
    cards = memory(cuda=22.5)
    auto = choose_device(LLAMA_8B, cards, step=StepSize(positions_per_seq=12))
    assert (str(auto.device), auto.micro_batch_seqs) == ("cuda:0", 16)
    assert str(choose_device(LLAMA_8B, cards, step=StepSize(micro_batch_seqs=32)).device) == "cpu"
    assert str(choose_device(LLAMA_8B, cards, dtype=torch.float32).device) == "cpu"


def test_this_machine_has_at_least_a_cpu_with_memory() -> None:
    devices = measure_memory()
    assert devices[-1].name == "cpu"
    assert all(device.free_bytes > 0 for device in devices)


def cards(monkeypatch: pytest.MonkeyPatch, *sizes: int, newest: int = 9) -> list[int]:
    """CUDA devices of the given sizes; the list of those that were asked what is free."""
    asked: list[int] = []

    def free(device: torch.device) -> tuple[int, int]:
        asked.append(device.index)
        return sizes[device.index] - 10**9, sizes[device.index]

    def properties(index: int) -> SimpleNamespace:
        return SimpleNamespace(total_memory=sizes[index], major=newest if index == 0 else 9, minor=0)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(sizes))
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(torch.cuda, "mem_get_info", free)
    return asked


def test_only_the_cards_that_are_named_are_asked_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = cards(monkeypatch, 20 * 10**9, 40 * 10**9, 30 * 10**9)
    assert [device.name for device in measure_memory()] == ["cuda:1", "cuda:2", "cuda:0", "cpu"]
    assert asked == [0, 1, 2]
    asked.clear()
    assert measure_memory([2])[0] == DeviceMemory("cuda:2", 29 * 10**9, 30 * 10**9)
    assert asked == [2]


def test_several_processes_decide_by_what_never_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = cards(monkeypatch, 40 * 10**9, 20 * 10**9, 10 * 10**9, newest=7)
    card, host = memory_of_each(2, [0, 1])
    assert card == DeviceMemory("cuda:1", 20 * 10**9, 20 * 10**9, bf16=False), "the weakest, and one has no bfloat16"
    assert host.free_bytes == host.total_bytes == psutil.virtual_memory().total // 2
    assert asked == []


@pytest.mark.parametrize("look", [measure_memory, lambda named: memory_of_each(2, named)])
def test_a_card_that_is_not_there_is_refused(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cards(monkeypatch, 10**9, 10**9)
    with pytest.raises(InputError, match="there is no cuda:5 on this machine, which has 2 CUDA device"):
        look([0, 5])
