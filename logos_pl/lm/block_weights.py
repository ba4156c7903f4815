"""Weights of the blocks of a streamed model: one block is in memory, the next is being fetched, the rest are on disk.

On CUDA, reading and copying overlap with computation: while one block computes, the next is copied to the device and
the one after it is read, so that a block costs the longest of the three and not their sum.

Only matrices are fetched. Vectors (norms, biases) and tables stay in memory: they are small, and the lenses read the
norms of the blocks.
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
"""Reads tensors of the files into the model as an ordinary load does; raises an error if one of the named matrices is
missing or does not fit."""


class Slot(NamedTuple):
    """The place of a matrix in the model, and its placeholder while it is on disk: a meta tensor of its shape."""

    module: nn.Module
    name: str
    absent: nn.Parameter


class BlockPlan(NamedTuple):
    """Which tensors of the files belong to which parts of the model.

    Attributes:
        resident: Tensors that are read once.
        streamed: By block, tensors of its matrices.
        targets: By block, the names of the matrices that are made from them.
        copied: By block and name of the tensor, the matrix that is an exact copy of it; others are converted,
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
        load_config: transformers' record of the load: renamings and conversions between file and model, and the
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


class Coming(NamedTuple):
    """A block that the background thread reads or copies.

    Attributes:
        number: Its number.
        done: Completes when the thread has finished with it.
    """

    number: int
    done: Future[Any]


class BlockWeights:
    """Holds the weights of one block at a time, while a background thread fetches those of the next.

    Args:
        model: The model; matrices of its blocks are on the meta device.
        plan: Which tensors of the files belong to which block.
        read: Reads some of these tensors into the model.
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
        self._coming: Coming | None = None
        self._ahead: Coming | None = None

    @property
    def stored_bytes(self) -> list[int]:
        """Bytes that are read for each block."""
        return [sum(tensor.nbytes for tensor in tensors.values()) for tensors in self._plan.streamed]

    def take(self, number: int) -> None:
        """Put the weights of a block in place, drop those of the previous one, and start to fetch the next.

        Raises:
            InputError: Tensors of the block are missing or do not fit.
            RunError: The file can no longer be read, or memory is short.
        """
        if number == self._present:
            return
        if self._present is not None:
            self._remove(self._present)
            self._present = None
        if self._coming is None or self._coming.number != number:
            self._give_up()
        coming, self._coming = self._coming or self._fetching(number), None
        arrived = coming.done.result()
        if arrived is not None:
            self._hand_over(number, arrived)
        self._present = number
        following = self._after(number)
        if following != number:
            self._coming = self._fetching(following)
            if self._copies is not None and self._after(following) != number:
                ahead = self._after(following)
                self._ahead = Coming(ahead, self._thread.submit(self._read_block, ahead))

    def _after(self, number: int) -> int:
        return (number + 1) % len(self._slots)

    def _fetching(self, number: int) -> Coming:
        """Have the thread read a block, unless it was read ahead, and copy it."""
        ahead, self._ahead = self._ahead, None
        queued = None if self._copies is None else torch.cuda.current_stream(self._device).record_event()
        return Coming(number, self._thread.submit(self._fetch, number, None if ahead is None else ahead.done, queued))

    def _give_up(self) -> None:
        """Drop blocks that were fetched ahead for another order."""
        fetched, self._coming, self._ahead = [self._coming, self._ahead], None, None
        for block in fetched:
            if block is not None:
                block.done.result()
                self._remove(block.number)

    def _read_block(self, number: int) -> None:
        """Runs in the thread: reads a block into the host's memory, on CUDA page-locked."""
        self._read(self._plan.streamed[number], self._plan.targets[number])
        for module, name, _ in self._slots[number]:
            getattr(module, name).requires_grad_(False)

    def _fetch(
        self, number: int, ahead: Future[Any] | None, queued: torch.cuda.Event | None
    ) -> torch.cuda.Event | None:
        """Runs in the thread: reads a block if it has not been read ahead; on CUDA starts its copy to the device.

        The copy waits for the computation queued before it, whose blocks are freed by then: at most two are on the
        device.
        """
        if ahead is None:
            self._read_block(number)
        else:
            ahead.result()  # already finished: the thread works sequentially
        if self._copies is None or queued is None:
            return None
        queued.synchronize()
        with torch.cuda.stream(self._copies):
            for module, name, _ in self._slots[number]:
                parameter = getattr(module, name)
                parameter.data = parameter.data.to(self._device, non_blocking=True)
            return self._copies.record_event()

    def _hand_over(self, number: int, arrived: torch.cuda.Event) -> None:
        """Let the computation wait for the copy, and keep the copied memory until the computation has finished."""
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
