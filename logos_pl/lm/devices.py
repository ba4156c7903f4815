"""Chooses the device of a model from the memory it needs and the memory of each device.

Measuring memory is separate from the decision, which is a pure function.
"""

from collections.abc import Sequence
from itertools import product
from typing import Literal, NamedTuple

import psutil
import torch

from logos_pl.errors import InputError
from logos_pl.lm.dtypes import dtype_for
from logos_pl.lm.memory import MICRO_BATCH_SEQS, ModelShape, StepSize, gib, memory_parts, streamed_parts

Placement = Literal["resident", "streamed", "sharded"]
"""Whether a model's blocks are in memory, read from disk for each group of micro-batches, or sharded over the
processes of a machine."""

GROUP_TOKENS = tuple(2**power for power in range(16, 8, -1))
"""Tokens of a streamed group; the first size that fits is used. On an H100, 2¹⁶ hide the reading from disk."""
HOST_SHARE = 4
"""The residuals kept for a group take at most one part in this many of the host's memory."""


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
        needed_bytes: Estimated memory for fitting a lens.
        micro_batch_seqs: Sequences per forward pass.
        placement: Whether the model is in memory.
        group_tokens: Tokens of a streamed group; None for another model.
        shards: Processes that share a sharded model; None for another model.
    """

    device: torch.device
    dtype: torch.dtype
    needed_bytes: int
    micro_batch_seqs: int
    placement: Placement = "resident"
    group_tokens: int | None = None
    shards: int | None = None


def choose_device(
    shape: ModelShape,
    memory: Sequence[DeviceMemory],
    override: str | None = None,
    step: StepSize | None = None,
    dtype: torch.dtype | None = None,
    placement: Placement | Literal["auto"] = "resident",
    group_tokens: int | None = None,
    processes: int = 1,
) -> DeviceChoice:
    """Choose the first device of ``memory`` (cuda, mps, cpu) with enough memory, or the one named by the user.

    With ``auto``, a model is resident if it fits. If not, it is sharded over the processes of a machine, or streamed if
    there is only one; on a CPU only if it fits no CUDA device even then.

    Args:
        shape: The model's sizes.
        memory: Devices in order of preference, as ``measure_memory`` returns them.
        override: A device name, ``auto`` or None; ``cuda`` means the first CUDA device.
        step: Settings of a training step.
        dtype: The number format the user names; None: the device's own.
        placement: Whether the model is in memory.
        group_tokens: Tokens of a streamed group; None: as many as fit.
        processes: Processes on this machine; ``memory`` is what each may use.

    Raises:
        InputError: The model fits nowhere, the named device does not exist, or the placement is impossible with this
            number of processes or kind of device.
    """
    step = StepSize() if step is None else step
    named = None if override in (None, "auto") else _named(memory, str(override))
    considered = memory if named is None else [named]
    _refuse_placement(placement, processes, considered)
    host, others = memory[-1], [device for device in considered if device.kind != "mps"]
    resident = [(_choice(shape, device, step, dtype), device) for device in considered]
    if processes == 1:
        parted = [(_streamed_choice(shape, device, host, step, dtype, group_tokens), device) for device in others]
    else:
        parted = [(_choice(shape, device, step, dtype, processes), device) for device in others]
    # A streamed or sharded model on GPUs is many times faster than a resident one on the CPU.
    either = [pair for on_cpu in (False, True) for pair in [*resident, *parted] if (pair[1].kind == "cpu") == on_cpu]
    choices = {"resident": resident, "auto": either}.get(placement, parted)
    for choice, device in choices:
        if choice.needed_bytes <= device.free_bytes and _fits_host(shape, choice, step, device, host):
            return choice
    if named is not None and placement in ("resident", "auto"):
        return resident[0][0]
    needs = "; ".join(
        f"{device.name} has {gib(device.free_bytes)} free of the {gib(choice.needed_bytes)} needed in "
        f"{str(choice.dtype).removeprefix('torch.')}"
        + (f", streamed {choice.group_tokens:,} tokens at a time" if choice.group_tokens is not None else "")
        + (f", in {choice.shards} shards" if choice.shards is not None else "")
        for choice, device in choices
    )
    last_resort = ", or name a device to try it anyway" if placement in ("resident", "auto") else ""
    raise InputError(
        f"the model ({shape.num_parameters / 1e9:.1f}B parameters) fits on no device here: {needs}; free memory, use "
        f"a smaller model{last_resort}."
    )


def _refuse_placement(placement: str, processes: int, devices: Sequence[DeviceMemory]) -> None:
    """Refuse a placement that is impossible with this number of processes or these devices.

    Raises:
        InputError: It is impossible.
    """
    if placement == "sharded" and processes == 1:
        raise InputError(
            "a model is sharded over several devices of a machine, but there is only one process: give "
            "--trainer.devices, or --model.placement streamed."
        )
    if placement in ("streamed", "sharded") and all(device.kind == "mps" for device in devices):
        raise InputError(f"a model can be {placement} on cuda or cpu, but not on mps: give --model.placement resident.")


def _choice(
    shape: ModelShape, device: DeviceMemory, step: StepSize, dtype: torch.dtype | None, shards: int | None = None
) -> DeviceChoice:
    """The choice for a model that is whole or split into `shards`."""
    dtype = dtype or dtype_for(device.name, shape.family, shape.num_parameters, bf16=device.bf16)
    micro = step.micro_batch_seqs
    if micro is None:
        micro = largest_micro_batch(shape, device, dtype, step, shards)
    needed = memory_parts(shape, device.kind, dtype, step._replace(micro_batch_seqs=micro), shards).total
    placement: Placement = "resident" if shards is None else "sharded"
    return DeviceChoice(torch.device(device.name), dtype, needed, micro, placement, shards=shards)


def _streamed_choice(
    shape: ModelShape,
    device: DeviceMemory,
    host: DeviceMemory,
    step: StepSize,
    dtype: torch.dtype | None,
    group_tokens: int | None,
) -> DeviceChoice:
    """The largest group that fits and then the largest micro-batch; the smallest of both if nothing fits."""
    dtype = dtype or dtype_for(device.name, shape.family, shape.num_parameters, bf16=device.bf16)
    most = min(MICRO_BATCH_SEQS[device.kind], step.step_seqs)
    micros = [size for size in range(most, 0, -1) if step.step_seqs % size == 0]
    if step.micro_batch_seqs is not None:
        micros = [step.micro_batch_seqs]
    groups = GROUP_TOKENS if group_tokens is None else (group_tokens,)
    for group, micro in product(groups, micros):
        parts = streamed_parts(shape, device.kind, dtype, step._replace(micro_batch_seqs=micro), group)
        needed = parts.on_device(device.kind)
        if needed <= device.total_bytes and parts.kept <= host.total_bytes // HOST_SHARE:
            break
    return DeviceChoice(torch.device(device.name), dtype, needed, micro, "streamed", group)


def _fits_host(
    shape: ModelShape, choice: DeviceChoice, step: StepSize, device: DeviceMemory, host: DeviceMemory
) -> bool:
    """Whether the host has room for what a model streamed to a GPU keeps there."""
    if choice.group_tokens is None or device.kind == "cpu":
        return True
    parts = streamed_parts(
        shape, device.kind, choice.dtype, step._replace(micro_batch_seqs=choice.micro_batch_seqs), choice.group_tokens
    )
    return parts.on_host <= host.free_bytes


def largest_micro_batch(
    shape: ModelShape, device: DeviceMemory, dtype: torch.dtype, step: StepSize, shards: int | None = None
) -> int:
    """The largest divisor of the step's sequences, up to ``MICRO_BATCH_SEQS``, with which a step fits; 1 if none does.

    It depends on the total memory of the device, not on what is free now, so that a resumed run gets the same.
    """
    most = min(MICRO_BATCH_SEQS[device.kind], step.step_seqs)
    sizes = [size for size in range(most, 0, -1) if step.step_seqs % size == 0]
    for size in sizes:
        sized = step._replace(micro_batch_seqs=size)
        if memory_parts(shape, device.kind, dtype, sized, shards).total <= device.total_bytes:
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
        InputError: One of the devices does not exist.
    """
    found = [card._replace(free_bytes=free_memory(torch.device(card.name))) for card in _cards(cards)]
    found.sort(key=lambda device: -device.free_bytes)
    if torch.backends.mps.is_available():
        found.append(DeviceMemory("mps", free_memory(torch.device("mps")), torch.mps.recommended_max_memory()))
    return [*found, DeviceMemory("cpu", free_memory(torch.device("cpu")), psutil.virtual_memory().total)]


def memory_of_each(processes: int, cards: Sequence[int]) -> list[DeviceMemory]:
    """Memory that each of several processes on this machine may use, in order of preference: the same in all of them.

    It is the total memory of the smallest GPU and an equal share of the host's. Free memory is not used, since it
    differs between processes, which could then decide differently.

    Args:
        processes: Processes on this machine.
        cards: CUDA devices that they run on.

    Raises:
        InputError: One of the devices does not exist.
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
    # MPS shares memory with the CPU; Metal recommends a limit.
    return min(available, torch.mps.recommended_max_memory()) if device.type == "mps" else available
