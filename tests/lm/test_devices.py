"""The choice of device and number format, from numbers alone."""

from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from transformers import AutoConfig, Gemma2Config, LlamaConfig

from logos_pl.errors import InputError
from logos_pl.lm.devices import (
    GIB,
    DeviceMemory,
    ModelShape,
    StepSize,
    choose_device,
    dtype_for,
    largest_micro_batch,
    measure_memory,
    memory_of_each,
    memory_parts,
    shape_of,
    unembedding_dtype,
)
from tests.lm.families import FAMILIES, tiny_model

LLAMA_8B = ModelShape("llama", 8_030_261_248, 32, 4096, 128_256)
LLAMA_70B = ModelShape("llama", 70_553_706_496, 80, 8192, 128_256)
GEMMA_27B = ModelShape("gemma2", 27_227_128_320, 46, 4608, 256_000)


def memory(
    cuda: float | None = None, mps: float | None = None, cpu: float = 64.0, bf16: bool = True
) -> list[DeviceMemory]:
    devices = [] if cuda is None else [DeviceMemory("cuda:0", int(cuda * GIB), int(cuda * GIB), bf16)]
    devices += [] if mps is None else [DeviceMemory("mps", int(mps * GIB), int(mps * GIB))]
    return [*devices, DeviceMemory("cpu", int(cpu * GIB), int(cpu * GIB))]


def needed_bytes(shape: ModelShape, kind: str, dtype: torch.dtype, **step: int) -> int:
    return memory_parts(shape, kind, dtype, StepSize(**step)).total


@pytest.mark.parametrize(
    ("device", "family", "billions", "bf16", "wanted"),
    [
        ("cuda:0", "llama", 8, True, torch.bfloat16),
        ("cuda:1", "llama", 8, False, torch.float16),
        ("cuda", "gemma2", 9, False, torch.bfloat16),
        ("cuda", "gemma3_text", 4, False, torch.bfloat16),
        ("mps", "llama", 8, True, torch.float16),
        ("mps", "gemma2", 9, True, torch.bfloat16),
        ("cpu", "llama", 8, True, torch.float32),
        ("cpu", "gemma2", 27.2, True, torch.float32),
        ("cpu", "llama", 29.9, True, torch.float32),
        ("cpu", "llama", 30, True, torch.bfloat16),
        ("cpu", "llama", 70, True, torch.bfloat16),
    ],
)
def test_the_number_format_follows_device_family_and_size(
    device: str, family: str, billions: float, bf16: bool, wanted: torch.dtype
) -> None:
    assert dtype_for(device, family, int(billions * 1e9), bf16=bf16) == wanted
    assert dtype_for(torch.device(device), family, int(billions * 1e9), bf16=bf16) == wanted


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


def test_a_device_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="there is no device 'cuda' on this machine; choose among cpu, or `auto`"):
        choose_device(LLAMA_8B, memory(), override="cuda")


def test_the_estimate_is_above_the_weights_and_below_twice_them_for_a_large_model() -> None:
    for shape in (LLAMA_8B, LLAMA_70B, GEMMA_27B):
        weights = 2 * shape.num_parameters
        assert weights < needed_bytes(shape, "cuda", torch.bfloat16) < 2 * weights


def test_the_estimate_counts_an_fp32_copy_of_the_head_only_where_one_is_made() -> None:
    small = LLAMA_8B._replace(vocab_size=99_000)
    assert memory_parts(small, "cuda", torch.bfloat16, StepSize()).head == 99_000 * 4096 * 4
    assert memory_parts(LLAMA_8B, "cuda", torch.bfloat16, StepSize()).head == 0
    assert needed_bytes(LLAMA_8B, "cpu", torch.bfloat16) > needed_bytes(LLAMA_8B, "cpu", torch.bfloat16, rank=0)


def test_large_vocabularies_stay_in_half_precision_on_cuda_only() -> None:
    cuda, cpu, mps = (torch.device(name) for name in ("cuda", "cpu", "mps"))
    assert unembedding_dtype(cuda, 100_000, torch.bfloat16) == torch.bfloat16
    assert unembedding_dtype(cuda, 100_000, torch.float16) == torch.float16
    assert unembedding_dtype(cuda, 99_999, torch.bfloat16) == torch.float32
    assert unembedding_dtype(cuda, 100_000, torch.float32) == torch.float32
    assert unembedding_dtype(cpu, 256_000, torch.bfloat16) == torch.float32
    assert unembedding_dtype(mps, 256_000, torch.float16) == torch.float32


@pytest.mark.parametrize("vocab", [1_000, 128_256])
@pytest.mark.parametrize("kind", ["cuda", "mps", "cpu"])
def test_the_unembeddings_format_can_be_asked_for_and_is_counted(kind: str, vocab: int) -> None:
    shape, copied = LLAMA_8B._replace(vocab_size=vocab), vocab * 4096 * 4
    found = {
        fp32: memory_parts(shape, kind, torch.bfloat16, StepSize(fp32_unembed=fp32)).head for fp32 in (True, False)
    }
    widened = 0 if kind == "cuda" else min(2**26, copied)
    assert found == {True: copied, False: widened}
    assert unembedding_dtype(torch.device(kind), vocab, torch.bfloat16, True) == torch.float32
    assert unembedding_dtype(torch.device(kind), vocab, torch.bfloat16, False) == torch.bfloat16
    assert memory_parts(shape, kind, torch.float32, StepSize(fp32_unembed=True)).head == 0


def test_an_8b_lens_fits_a_card_of_24_gb_by_hand() -> None:
    """8 sequences of 512 tokens, 12 positions each; what is written out here is what the arithmetic has to say."""
    parts = memory_parts(LLAMA_8B, "cuda", torch.bfloat16, StepSize(rank=256, positions_per_seq=12, micro_batch_seqs=8))
    d, rows, vocab = 4096, 31, 128_256
    assert parts.weights == pytest.approx(1.08 * 2 * 8.03e9, rel=1e-3)
    # fp32; value, gradient, two moments, average, and value and gradient out of the basis, of two d × d maps
    assert parts.lens == rows * (d * 256 + 256 * d + d + d) * 4 * 7 + 2 * d * d * 4
    assert parts.activations == 8 * 512 * 32 * d * 2
    assert parts.residuals == 32 * 8 * 12 * d * 18
    assert parts.loss == int(4.5 * 2**28) + 3 * rows * vocab * 4
    assert parts.total == sum(parts) < 24e9 < needed_bytes(LLAMA_8B, "cuda", torch.bfloat16, micro_batch_seqs=16)


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


def test_a_tiny_model_needs_little() -> None:
    tiny = ModelShape("llama", 5_600_000, 8, 192, 6144)
    assert needed_bytes(tiny, "cpu", torch.float32) < 0.5 * GIB


@pytest.mark.parametrize("name", ["llama", "llama_tied", "gpt2", "qwen3_moe", "opt_project"])
def test_parameters_are_counted_without_making_them_and_tied_ones_once(name: str) -> None:
    family = FAMILIES[name]
    shape = shape_of(AutoConfig.for_model(family.model_type, **family.settings))
    assert shape.num_parameters == sum(p.numel() for p in tiny_model(name).parameters())
    assert (shape.num_blocks, shape.d_model, shape.vocab_size) == (3, 32, 97)


def test_real_sizes_come_out_of_real_configurations_in_no_memory() -> None:
    llama = LlamaConfig(
        vocab_size=128_256,
        hidden_size=8192,
        intermediate_size=28_672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
    )
    assert shape_of(llama) == LLAMA_70B
    gemma = Gemma2Config(
        hidden_size=4608,
        intermediate_size=36_864,
        num_hidden_layers=46,
        num_attention_heads=32,
        num_key_value_heads=16,
        head_dim=128,
    )
    assert shape_of(gemma) == GEMMA_27B


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
