"""Weights of the blocks of a streamed model: one block is in place, the next is being fetched, the others are on disk.

What is fetched are the matrices. Vectors (norms, biases) and tables are in place all the time: they are small, and the
lenses read the norms of the blocks.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from logos_pl.lm.stored_tensors import StoredTensor

Read = Callable[[Mapping[str, StoredTensor], Sequence[str]], None]
"""Reads tensors of the files into the model as at an ordinary load, and refuses where one of the matrices named is
missing or does not fit."""


class Slot(NamedTuple):
    """The place of a matrix in the model, and what stands there while it is on disk: its shape without numbers."""

    module: nn.Module
    name: str
    absent: nn.Parameter


class BlockPlan(NamedTuple):
    """Which tensors of the files make which parts of the model.

    Attributes:
        resident: Tensors that are read once.
        streamed: By block, tensors of its matrices.
        targets: By block, the names of the matrices that come of them.
        copied: By block and name of the tensor, the matrix that has its numbers as they are; others are converted,
            such as stacked experts.
    """

    resident: dict[str, StoredTensor]
    streamed: list[dict[str, StoredTensor]]
    targets: list[list[str]]
    copied: list[dict[str, str]]


def plan_blocks(
    model: PreTrainedModel, blocks: Sequence[nn.Module], stored: Mapping[str, StoredTensor], load_config: Any
) -> BlockPlan:
    """Sorts the tensors of the files by block.

    Args:
        model: The model on the meta device.
        blocks: Its blocks.
        stored: The tensors of its files.
        load_config: transformers' account of a loading: renamings and conversions between file and model, and the
            modules that keep another number format.
    """
    mapping = load_config.weight_mapping or []
    owner = {id(part): number for number, block in enumerate(blocks) for part in block.parameters() if part.ndim > 1}
    parameters = dict(model.named_parameters())
    block_of = {name: owner[id(part)] for name, part in parameters.items() if id(part) in owner}
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
    state = model.state_dict()
    plan = BlockPlan({}, [{} for _ in blocks], [[] for _ in blocks], [{} for _ in blocks])
    for name, number in block_of.items():
        plan.targets[number].append(name)
    for key, tensor in stored.items():
        target, converted = rename_source_key(key, renamings, converters, model.base_model_prefix, state)
        found = block_of.get(target, block_of.get(key))
        (plan.resident if found is None else plan.streamed[found])[key] = tensor
        if found is None or target not in block_of or converted is not None or load_config.dtype_plan:
            continue
        if tensor.shape == parameters[target].shape:
            plan.copied[found][key] = target
    return plan


class BlockWeights:
    """Puts the weights of one block at a time in place, and fetches those of the next in a thread meanwhile.

    Args:
        model: The model; matrices of its blocks are on the meta device.
        plan: Which tensors of the files belong to which block.
        read: Reads some of them into the model.
        device: Where the blocks run.
    """

    def __init__(self, model: PreTrainedModel, plan: BlockPlan, read: Read, device: torch.device) -> None:
        self._read = read
        self._plan = plan
        self._slots = [[_slot(model, name) for name in names] for names in plan.targets]
        self._device = device
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="block-weights")
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._present: int | None = None
        self._coming: tuple[int, Future[Any]] | None = None

    @property
    def stored_bytes(self) -> list[int]:
        """Bytes that are read for each block."""
        return [sum(tensor.nbytes for tensor in tensors.values()) for tensors in self._plan.streamed]

    def take(self, number: int) -> None:
        """Puts the weights of a block in place, those of the block before are gone; starts to fetch the next.

        Raises:
            InputError: Tensors of the block are missing or do not fit.
            RunError: The file cannot be read any more, or memory is short.
        """
        if number == self._present:
            return
        if self._present is not None:
            self._remove(self._present)
            self._present = None
        coming, self._coming = self._coming, None
        if coming is not None and coming[0] != number:
            coming[1].result()
            self._remove(coming[0])
            coming = None
        arrived = self._thread.submit(self._fetch, number).result() if coming is None else coming[1].result()
        if arrived is not None:
            self._hand_over(number, arrived)
        self._present = number
        following = (number + 1) % len(self._slots)
        if following != number:
            self._coming = following, self._thread.submit(self._fetch, following)

    def _fetch(self, number: int) -> torch.cuda.Event | None:
        """Runs in the thread: reads a block, and on CUDA starts its copy to the device."""
        self._read(self._plan.streamed[number], self._plan.targets[number])
        present = [getattr(module, name) for module, name, _ in self._slots[number]]
        for parameter in present:
            parameter.requires_grad_(False)
        if self._copies is None:
            return None
        with torch.cuda.stream(self._copies):
            for parameter in present:
                parameter.data = parameter.data.to(self._device, non_blocking=True)
            return self._copies.record_event()

    def _hand_over(self, number: int, arrived: torch.cuda.Event) -> None:
        """Lets the arithmetic wait for the copy, and the memory of the copy for the arithmetic."""
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(arrived)
        for module, name, _ in self._slots[number]:
            getattr(module, name).data.record_stream(stream)

    def _remove(self, number: int) -> None:
        for module, name, absent in self._slots[number]:
            setattr(module, name, absent)


def _slot(model: PreTrainedModel, name: str) -> Slot:
    path, _, last = name.rpartition(".")
    module = model.get_submodule(path)
    return Slot(module, last, getattr(module, last).requires_grad_(False))
