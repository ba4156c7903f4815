"""Chooses the device of a model from the memory it needs and the memory of each device.

Measuring memory is separate from the decision, which is a pure function.
"""

from collections.abc import Sequence
from typing import NamedTuple

import psutil
import torch

from logos_pl.errors import InputError
from logos_pl.lm.dtypes import dtype_for
from logos_pl.lm.memory import MICRO_BATCH_SEQS, ModelShape, StepSize, gib, memory_parts


class DeviceMemory(NamedTuple):
    """A device of this machine and its memory.

    Attributes:
        name: ``cuda:0``, ``mps`` or ``cpu``.
        free_bytes: Memory that is free now.
        total_bytes: All of its memory.
        bf16: Whether it supports bfloat16.
    """

    name: str
    free_bytes: int
    total_bytes: int
    bf16: bool = True

    @property
    def kind(self) -> str:
        """``cuda``, ``mps`` or ``cpu``."""
        return self.name.split(":")[0]


class DeviceChoice(NamedTuple):
    """The device chosen for a model, and the numbers behind the choice.

    Attributes:
        device: Where the model runs.
        dtype: Its number format.
        needed_bytes: Memory that fitting a lens takes, by the estimate.
        micro_batch_seqs: Sequences per forward pass.
    """

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
    """Choose the first device of ``memory`` (cuda, mps, cpu) with enough memory, or the one the user names in any case.

    Args:
        shape: The model's sizes.
        memory: Devices in order of preference, as ``measure_memory`` returns them.
        override: A device name, ``auto`` or None; ``cuda`` means the first CUDA device.
        step: Training step of the lens.
        dtype: Number format given by the user; None: default of the device.

    Raises:
        InputError: The model fits on no device, or the named device does not exist.
    """
    step = StepSize() if step is None else step
    if override is not None and override != "auto":
        return _choice(shape, _named(memory, override), step, dtype)
    choices = [(_choice(shape, device, step, dtype), device) for device in memory]
    for choice, device in choices:
        if choice.needed_bytes <= device.free_bytes:
            return choice
    needs = "; ".join(
        f"{device.name} has {gib(device.free_bytes)} free of the {gib(choice.needed_bytes)} needed in "
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

    It depends on the total memory of the device, not on what is free now, so that a resumed run gets the same.
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


def measure_memory(cards: Sequence[int] | None = None) -> list[DeviceMemory]:
    """Devices of this machine in order of preference, with their free memory.

    Args:
        cards: CUDA devices to query; None: all. Querying free memory creates a CUDA context of some hundred MiB.

    Raises:
        InputError: One of the cards does not exist.
    """
    found = [card._replace(free_bytes=free_memory(torch.device(card.name))) for card in _cards(cards)]
    found.sort(key=lambda device: -device.free_bytes)
    if torch.backends.mps.is_available():
        found.append(DeviceMemory("mps", free_memory(torch.device("mps")), torch.mps.recommended_max_memory()))
    return [*found, DeviceMemory("cpu", free_memory(torch.device("cpu")), psutil.virtual_memory().total)]


def memory_of_each(processes: int, cards: Sequence[int]) -> list[DeviceMemory]:
    """Memory that each of several processes on this machine may use, in order of preference: the same in all of them.

    It is the total memory of the weakest card and an equal share of the host's. Free memory differs between processes,
    which could then decide differently.

    Args:
        processes: Processes on this machine.
        cards: CUDA devices that they run on.

    Raises:
        InputError: One of the cards does not exist.
    """
    found = []
    if own := _cards(cards):
        weakest = min(own, key=lambda card: card.total_bytes)
        found.append(weakest._replace(bf16=all(card.bf16 for card in own)))
    part = psutil.virtual_memory().total // processes
    return [*found, DeviceMemory("cpu", part, part)]


def _cards(cards: Sequence[int] | None) -> list[DeviceMemory]:
    """CUDA devices with their total memory; creates no CUDA context."""
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
    """Bytes that are free now on one device; no other device is queried."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    available = psutil.virtual_memory().available
    # With MPS, memory is shared with the CPU; Metal recommends a limit.
    return min(available, torch.mps.recommended_max_memory()) if device.type == "mps" else available
