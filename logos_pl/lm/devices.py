"""Which device a model runs on and in which number format, decided from sizes before any weight is read.

The estimate is conservative and every constant in it is here. Measured memory is an argument, so that the decision is a
pure function.
"""

from collections.abc import Sequence
from typing import NamedTuple

import psutil
import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

from logos_pl.errors import InputError
from logos_pl.lm.quiet import quiet

GIB = 2**30
# Weights, plus buffers and the allocator's fragments.
WEIGHT_MARGIN = 1.08
# CUDA's own context and library workspaces.
CUDA_OVERHEAD = int(0.8 * GIB)
# Numbers alive per token and unit of width in a forward without gradient: residual, norm, q/k/v, a gated MLP.
ACTIVATIONS_PER_TOKEN = 32
TOKENS_PER_FORWARD = {"cuda": 32 * 512, "mps": 8 * 512, "cpu": 8 * 512}
# The lens loss keeps about 4.5 blocks of logits of 256 MiB, whatever the number of rows.
LOSS_BYTES = int(4.5 * 2**28)
# Translators in fp32: value, gradient and the two moments of AdamW.
TRANSLATOR_COPIES = 4
BF16_ON_CPU_FROM = 30_000_000_000
# From here on an fp32 copy of the unembedding costs more than it gives on CUDA (SPEC §2.1, large vocabularies).
LARGE_VOCABULARY = 100_000


class ModelShape(NamedTuple):
    """The sizes of a model that memory depends on.

    Attributes:
        family: ``model_type`` of the configuration.
        num_parameters: Parameters, tied ones once.
        num_blocks: Transformer blocks.
        d_model: Width.
        vocab_size: Tokens.
    """

    family: str
    num_parameters: int
    num_blocks: int
    d_model: int
    vocab_size: int


class DeviceMemory(NamedTuple):
    """A device that is there, and what it has to give.

    Attributes:
        name: ``cuda:0``, ``mps`` or ``cpu``.
        free_bytes: Memory that can be had now.
        bf16: Whether it computes in bfloat16.
    """

    name: str
    free_bytes: int
    bf16: bool = True


class DeviceChoice(NamedTuple):
    """The decision, with the numbers behind it."""

    device: torch.device
    dtype: torch.dtype
    needed_bytes: int


def choose_device(
    shape: ModelShape, memory: Sequence[DeviceMemory], override: str | None = None, rank: int = 256
) -> DeviceChoice:
    """The first device of ``memory`` (cuda, mps, cpu) with room, or the one the user names, with or without room.

    Args:
        shape: The model's sizes.
        memory: Devices in order of preference, as ``measure_memory`` returns them.
        override: A device name, ``auto`` or None; ``cuda`` means the first CUDA device.
        rank: Rank of the translators to be trained beside the model.

    Raises:
        InputError: The model fits nowhere, or the named device is not there.
    """
    if override is not None and override != "auto":
        return _choice(shape, _named(memory, override), rank)
    choices = [(_choice(shape, device, rank), device) for device in memory]
    for choice, device in choices:
        if choice.needed_bytes <= device.free_bytes:
            return choice
    needs = "; ".join(
        f"{device.name} has {_gib(device.free_bytes)} free of the {_gib(choice.needed_bytes)} needed in "
        f"{str(choice.dtype).removeprefix('torch.')}"
        for choice, device in choices
    )
    raise InputError(
        f"the model ({shape.num_parameters / 1e9:.1f}B parameters) fits on no device here: {needs}; free memory, take "
        "a smaller model, or name a device to try it all the same."
    )


def _choice(shape: ModelShape, device: DeviceMemory, rank: int) -> DeviceChoice:
    dtype = dtype_for(device.name, shape.family, shape.num_parameters, bf16=device.bf16)
    return DeviceChoice(torch.device(device.name), dtype, needed_bytes(shape, device.name, dtype, rank))


def _named(memory: Sequence[DeviceMemory], override: str) -> DeviceMemory:
    wanted = next((d for d in memory if override in (d.name, d.name.split(":")[0])), None)
    if wanted is None:
        names = ", ".join(device.name for device in memory)
        raise InputError(f"there is no device {override!r} on this machine; choose among {names}, or `auto`.")
    return wanted


def dtype_for(device: torch.device | str, family: str, num_parameters: int, *, bf16: bool = True) -> torch.dtype:
    """The number format of SPEC §9 for a device: half precision on accelerators, fp32 on the CPU below 30B.

    Args:
        device: Device or its name.
        family: ``model_type``; Gemma overflows in fp16 and always gets bf16.
        num_parameters: Parameters of the model.
        bf16: Whether the device computes in bfloat16.
    """
    kind = str(device).split(":")[0]
    if kind == "cpu":
        return torch.bfloat16 if num_parameters >= BF16_ON_CPU_FROM else torch.float32
    if "gemma" in family:
        return torch.bfloat16
    return torch.bfloat16 if kind == "cuda" and bf16 else torch.float16


def needed_bytes(shape: ModelShape, device: str, dtype: torch.dtype, rank: int = 256) -> int:
    """Memory to fit a lens on a model: weights, fp32 head, translators with optimiser, activations, loss."""
    kind = device.split(":")[0]
    weights = shape.num_parameters * dtype.itemsize * WEIGHT_MARGIN
    head_is_shared = dtype == torch.float32 or (kind == "cuda" and shape.vocab_size >= LARGE_VOCABULARY)
    head = 0 if head_is_shared else shape.vocab_size * shape.d_model * 4
    k = min(rank, shape.d_model)
    translators = (shape.num_blocks - 1) * (2 * k + 1) * shape.d_model * 4 * TRANSLATOR_COPIES
    activations = TOKENS_PER_FORWARD.get(kind, 8 * 512) * ACTIVATIONS_PER_TOKEN * shape.d_model * dtype.itemsize
    # A small vocabulary fills no block: 16 positions × 8 sequences × rows is all the logits there are.
    loss = min(LOSS_BYTES, int(4.5 * 128 * (shape.num_blocks + 1) * shape.vocab_size * 4))
    overhead = CUDA_OVERHEAD if kind == "cuda" else 0
    return int(weights + head + translators + activations + loss + overhead)


def measure_memory() -> list[DeviceMemory]:
    """The devices of this machine in order of preference, with what is free on each now."""
    found = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, _ = torch.cuda.mem_get_info(index)
            bf16 = torch.cuda.get_device_capability(index) >= (8, 0)
            found.append(DeviceMemory(f"cuda:{index}", free, bf16))
        found.sort(key=lambda device: -device.free_bytes)
    available = psutil.virtual_memory().available
    if torch.backends.mps.is_available():
        # Memory is shared with the CPU; what Metal recommends as its part bounds it.
        found.append(DeviceMemory("mps", min(available, torch.mps.recommended_max_memory()), bf16=True))
    return [*found, DeviceMemory("cpu", available)]


def shape_of(config: PreTrainedConfig) -> ModelShape:
    """A model's sizes from its configuration, counted on the meta device: no weight is read or made."""
    with torch.device("meta"), quiet():
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    model.tie_weights()
    text = config.get_text_config(decoder=True)
    return ModelShape(
        family=str(config.model_type),
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        num_blocks=text.num_hidden_layers,
        d_model=text.hidden_size,
        vocab_size=text.vocab_size,
    )


def _gib(num_bytes: int) -> str:
    gib = num_bytes / GIB
    return f"{gib:.0f} GiB" if gib >= 10 else f"{gib:.1f} GiB"
