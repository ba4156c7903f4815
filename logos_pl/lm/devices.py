"""Which device a model runs on and in which number format, decided from sizes before any weight is read.

The estimate is conservative and every constant in it is here. Measured memory is an argument, so that the decision is a
pure function.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import psutil
import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

from logos_pl.errors import InputError
from logos_pl.functional.unembedding import WIDENED_BYTES
from logos_pl.lm.foreign import blaming
from logos_pl.lm.quiet import quiet

GIB = 2**30
# Weights, plus buffers and the allocator's fragments.
WEIGHT_MARGIN = 1.08
# CUDA's own context and library workspaces.
CUDA_OVERHEAD = int(0.8 * GIB)
# Numbers alive per token and unit of width in a forward without gradient: three MLP widths and four of the model's, so
# 14.5 for Llama-3-8B (measured on its shape) and 28 for Gemma-2-27B, whose MLP is eight times as wide as the model.
ACTIVATIONS_PER_TOKEN = 32
# Per row, position and unit of width: the residual, and in fp32 what is normed, translated and their gradients; 14.4
# were measured.
RESIDUAL_BYTES = 18
# The lens loss keeps at most so many blocks of logits, whatever the number of rows.
LOSS_BLOCKS = 4.5
# The bias-only lens's loss sums gradients over positions: so many fp32 numbers per row and token of the vocabulary.
BIAS_ONLY_SUMS = 3
# Translators in fp32: value, gradient, the two moments of AdamW, the average, and value and gradient out of the basis.
TRANSLATOR_COPIES = 7
MICRO_BATCH_SEQS = {"cuda": 32, "mps": 8, "cpu": 8}
"""Sequences per forward pass where the user leaves it to us and there is room. Source: docs/method.md §2.1."""
BF16_ON_CPU_FROM = 30_000_000_000
# From here on an fp32 copy of the unembedding costs more than it gives on CUDA (docs/method.md §2.1).
LARGE_VOCABULARY = 100_000

MAX_TABLE_BYTES = 4 * GIB
"""Buffers that a model may have, such as masks, beside as many bytes as four for each parameter."""


Fp32Unembed = bool | Literal["auto"]
"""Whether lenses hold the unembedding in fp32; `auto`: the rule of `unembedding_dtype`."""


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
        total_bytes: All that it has.
        bf16: Whether it computes in bfloat16.
    """

    name: str
    free_bytes: int
    total_bytes: int
    bf16: bool = True

    @property
    def kind(self) -> str:
        """``cuda``, ``mps`` or ``cpu``."""
        return self.name.split(":")[0]


class StepSize(NamedTuple):
    """What decides on the memory of a training step, all rows trained.

    Attributes:
        rank: Rank of the translators.
        seq_len: Tokens per sequence.
        positions_per_seq: Positions trained on in each.
        loss_block_mib: Budget of one block of logits.
        step_seqs: Sequences of one optimiser step in one process; micro-batches divide them.
        micro_batch_seqs: Sequences per forward pass; None: as many as fit.
        fp32_unembed: Whether the unembedding is held in fp32.
    """

    rank: int = 256
    seq_len: int = 512
    positions_per_seq: int = 16
    loss_block_mib: int = 256
    step_seqs: int = 32
    micro_batch_seqs: int | None = None
    fp32_unembed: Fp32Unembed = "auto"


class MemoryParts(NamedTuple):
    """Bytes that fitting a lens takes, by what they are for.

    Attributes:
        weights: The frozen model.
        head: An fp32 copy of the unembedding, where one is made; else what of it is widened at a time, off CUDA.
        lens: Translators and bias-only lens in fp32, their gradients and AdamW's moments.
        activations: The forward pass of one micro-batch.
        residuals: Rows at the sampled positions, normed and translated, with gradients.
        loss: Blocks of logits, and the sums of the bias-only lens's loss.
        overhead: CUDA's context and workspaces.
    """

    weights: int
    head: int
    lens: int
    activations: int
    residuals: int
    loss: int
    overhead: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


class DeviceChoice(NamedTuple):
    """The decision, with the numbers behind it."""

    device: torch.device
    dtype: torch.dtype
    needed_bytes: int
    micro_batch_seqs: int


def choose_device(
    shape: ModelShape,
    memory: Sequence[DeviceMemory],
    override: str | None = None,
    step: StepSize | None = None,
    dtype: torch.dtype | None = None,
) -> DeviceChoice:
    """The first device of ``memory`` (cuda, mps, cpu) with room, or the one the user names, with or without room.

    Args:
        shape: The model's sizes.
        memory: Devices in order of preference, as ``measure_memory`` returns them.
        override: A device name, ``auto`` or None; ``cuda`` means the first CUDA device.
        step: What is trained beside the model.
        dtype: The number format the user names; None: the device's own.

    Raises:
        InputError: The model fits nowhere, or the named device is not there.
    """
    step = StepSize() if step is None else step
    if override is not None and override != "auto":
        return _choice(shape, _named(memory, override), step, dtype)
    choices = [(_choice(shape, device, step, dtype), device) for device in memory]
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


def _choice(shape: ModelShape, device: DeviceMemory, step: StepSize, dtype: torch.dtype | None) -> DeviceChoice:
    dtype = dtype or dtype_for(device.name, shape.family, shape.num_parameters, bf16=device.bf16)
    micro = step.micro_batch_seqs
    if micro is None:
        micro = largest_micro_batch(shape, device, dtype, step)
    needed = memory_parts(shape, device.kind, dtype, step._replace(micro_batch_seqs=micro)).total
    return DeviceChoice(torch.device(device.name), dtype, needed, micro)


def largest_micro_batch(shape: ModelShape, device: DeviceMemory, dtype: torch.dtype, step: StepSize) -> int:
    """The largest divisor of the step's sequences, up to ``MICRO_BATCH_SEQS``, with which a step fits; 1 if none does.

    It goes by all the memory a device has, not by what is free now, so that a resumed run comes to the same.
    """
    most = min(MICRO_BATCH_SEQS[device.kind], step.step_seqs)
    sizes = [size for size in range(most, 0, -1) if step.step_seqs % size == 0]
    for size in sizes:
        if memory_parts(shape, device.kind, dtype, step._replace(micro_batch_seqs=size)).total <= device.total_bytes:
            return size
    return 1


def _named(memory: Sequence[DeviceMemory], override: str) -> DeviceMemory:
    wanted = next((d for d in memory if override in (d.name, d.name.split(":")[0])), None)
    if wanted is None:
        names = ", ".join(device.name for device in memory)
        raise InputError(f"there is no device {override!r} on this machine; choose among {names}, or `auto`.")
    return wanted


def dtype_for(device: torch.device | str, family: str, num_parameters: int, *, bf16: bool = True) -> torch.dtype:
    """The number format of docs/method.md §9 for a device: half precision on accelerators, fp32 on the CPU below 30B.

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


def unembedding_dtype(
    device: torch.device, vocab_size: int, weight_dtype: torch.dtype, fp32: Fp32Unembed = "auto"
) -> torch.dtype:
    """Number format in which lenses hold the unembedding; logits and all that comes of them are fp32 in any case.

    Args:
        device: Where it is.
        vocab_size: Tokens.
        weight_dtype: The model's own number format.
        fp32: fp32 always, or the model's own format always; `auto`: half precision for a half-precision head on CUDA
            from 100k tokens on, fp32 in every other case. Source: docs/method.md §2.1, large vocabularies.
    """
    if weight_dtype not in (torch.float16, torch.bfloat16):
        return torch.float32
    large = device.type == "cuda" and vocab_size >= LARGE_VOCABULARY
    return torch.float32 if fp32 is True or (fp32 == "auto" and not large) else weight_dtype


def _head_bytes(shape: ModelShape, kind: str, dtype: torch.dtype, fp32: Fp32Unembed) -> int:
    """The fp32 copy of the unembedding; of one in half precision, the piece that is widened off CUDA."""
    copied = shape.vocab_size * shape.d_model * 4
    if dtype == torch.float32:
        return 0  # it is the model's own
    if unembedding_dtype(torch.device(kind), shape.vocab_size, dtype, fp32) == torch.float32:
        return copied
    return 0 if kind == "cuda" else min(copied, WIDENED_BYTES)


def memory_parts(shape: ModelShape, kind: str, dtype: torch.dtype, step: StepSize) -> MemoryParts:
    """Memory to fit a lens on a model.

    Args:
        shape: The model's sizes.
        kind: ``cuda``, ``mps`` or ``cpu``.
        dtype: The model's number format.
        step: What is trained; without ``micro_batch_seqs``, with as many as the kind of device takes.
    """
    seqs = MICRO_BATCH_SEQS[kind] if step.micro_batch_seqs is None else step.micro_batch_seqs
    positions, rows = seqs * step.positions_per_seq, shape.num_blocks - 1
    numbers = rows * (2 * min(step.rank, shape.d_model) + 2) * shape.d_model  # U, V, c, and the bias-only lens's c
    # A small vocabulary fills no block.
    block = min(step.loss_block_mib * 2**20, positions * rows * shape.vocab_size * 4)
    return MemoryParts(
        weights=int(shape.num_parameters * dtype.itemsize * WEIGHT_MARGIN),
        head=_head_bytes(shape, kind, dtype, step.fp32_unembed),
        lens=numbers * 4 * TRANSLATOR_COPIES + 2 * shape.d_model**2 * 4,  # and the two maps of the basis
        activations=seqs * step.seq_len * ACTIVATIONS_PER_TOKEN * shape.d_model * dtype.itemsize,
        residuals=(rows + 1) * positions * shape.d_model * RESIDUAL_BYTES,
        loss=int(LOSS_BLOCKS * block) + BIAS_ONLY_SUMS * rows * shape.vocab_size * 4,
        overhead=CUDA_OVERHEAD if kind == "cuda" else 0,
    )


def measure_memory(cards: Sequence[int] | None = None) -> list[DeviceMemory]:
    """The devices of this machine in order of preference, with what is free on each now.

    Args:
        cards: CUDA devices to look at; None: all. Asking one what is free puts a context of some hundred MiB onto it.

    Raises:
        InputError: One of the cards is not there.
    """
    found = [card._replace(free_bytes=free_memory(torch.device(card.name))) for card in _cards(cards)]
    found.sort(key=lambda device: -device.free_bytes)
    if torch.backends.mps.is_available():
        found.append(DeviceMemory("mps", free_memory(torch.device("mps")), torch.mps.recommended_max_memory()))
    return [*found, DeviceMemory("cpu", free_memory(torch.device("cpu")), psutil.virtual_memory().total)]


def memory_of_each(processes: int, cards: Sequence[int]) -> list[DeviceMemory]:
    """What each of several processes on this machine may count on, in order of preference: the same in all of them.

    So it goes by what devices have, the weakest card and an equal part of the host's memory: what is free differs from
    one look to the next, and the processes would come to different decisions.

    Args:
        processes: Processes on this machine.
        cards: CUDA devices that they run on.

    Raises:
        InputError: One of the cards is not there.
    """
    found = []
    if own := _cards(cards):
        weakest = min(own, key=lambda card: card.total_bytes)
        found.append(weakest._replace(bf16=all(card.bf16 for card in own)))
    part = psutil.virtual_memory().total // processes
    return [*found, DeviceMemory("cpu", part, part)]


def _cards(cards: Sequence[int] | None) -> list[DeviceMemory]:
    """CUDA devices as they are when nothing is on them, without putting anything onto them."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        return []
    missing = [card for card in cards or () if card >= count]
    if missing:
        raise InputError(f"there is no cuda:{missing[0]} on this machine, which has {count} CUDA device(s).")
    found = []
    for index in range(count) if cards is None else cards:
        card = torch.cuda.get_device_properties(index)
        found.append(
            DeviceMemory(f"cuda:{index}", card.total_memory, card.total_memory, (card.major, card.minor) >= (8, 0))
        )
    return found


def free_memory(device: torch.device) -> int:
    """Bytes that can be had now on one device; no other is looked at."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    available = psutil.virtual_memory().available
    # With MPS, memory is shared with the CPU; what Metal recommends as its part bounds it.
    return min(available, torch.mps.recommended_max_memory()) if device.type == "mps" else available


def shape_of(config: PreTrainedConfig) -> ModelShape:
    """A model's sizes from its configuration, counted on the meta device: no weight is read or made.

    Raises:
        InputError: transformers cannot build a model from it, or its tables would fill the memory.
    """
    name = config.name_or_path or str(config.model_type)
    remedy = "fetch the model again"
    with torch.device("meta"), quiet(), blaming(f"config.json of {name} is not valid", remedy, name, vars(config)):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        model.tie_weights()
        text = config.get_text_config(decoder=True)
        shape = ModelShape(
            family=str(config.model_type),
            num_parameters=sum(parameter.numel() for parameter in model.parameters()),
            num_blocks=text.num_hidden_layers,
            d_model=text.hidden_size,
            vocab_size=text.vocab_size,
        )
        tables = sum(buffer.numel() * buffer.itemsize for buffer in model.buffers())
    if tables > MAX_TABLE_BYTES + 4 * shape.num_parameters:
        raise InputError(
            f"config.json of {name} describes tables of {_gib(tables)} beside {shape.num_parameters:,} parameters, "
            f"such as masks over all positions; {remedy}."
        )
    return shape


def _gib(num_bytes: int) -> str:
    gib = num_bytes / GIB
    return f"{gib:.0f} GiB" if gib >= 10 else f"{gib:.1f} GiB"
