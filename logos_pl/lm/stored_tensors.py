"""Tensors that stay in their safetensors files until they are needed: the source of streamed blocks.

They are read into ordinary memory, not mapped. Mapped pages would count as resident memory of the process, and if the
disk fails under a mapping, a signal kills the process without a message.
"""

import functools
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from torch import Tensor

from logos_pl.errors import InputError, RunError
from logos_pl.io.parsing import open_regular

STORED_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Number formats of unquantised weights in safetensors files."""

PART_BYTES = 2**24
"""A tensor is read in parts of this size, several at a time: a single thread copies only a few GB/s from the page
cache, and a fast disk reaches its full rate only with several reads in flight."""

READERS = ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1), thread_name_prefix="stored-tensors")


class StoredTensor:
    """A tensor in a file; ``stored[...]`` reads it anew each time.

    Args:
        path: The file.
        shown: What the file is called in messages.
        dtype: Number format in the file.
        shape: Shape of the tensor.
        offset: Its first byte in the file.
        pinned: Whether it is read into page-locked memory, from which a copy to CUDA can overlap with computation.
        state: State of the file when its header was read; if it has changed since, reading fails.
    """

    def __init__(
        self,
        path: Path,
        shown: str,
        dtype: torch.dtype,
        shape: Sequence[int],
        offset: int,
        pinned: bool,
        state: "FileState",
    ) -> None:
        self.path = path
        self.shown = shown
        self.state = state
        self.dtype = dtype
        self.shape = torch.Size(shape)
        self.offset = offset
        self.pinned = pinned

    @property
    def nbytes(self) -> int:
        """Its size in the file, in bytes."""
        return self.shape.numel() * self.dtype.itemsize

    def __getitem__(self, index: object) -> Tensor:
        """The whole tensor, as transformers asks for it.

        Raises:
            TypeError: Only a part is requested.
            RunError: The file is gone, truncated or changed, or the disk fails.
        """
        if index is not Ellipsis:
            raise TypeError(f"a stored tensor is read as a whole: [...], not [{index!r}].")
        content = torch.empty(self.nbytes, dtype=torch.uint8, pin_memory=self.pinned)
        self._read(content.numpy().data, self.offset)
        return content.view(self.dtype).view(self.shape)

    def rows(self, start: int, count: int) -> Tensor:
        """Some rows of the first dimension; only these are read from the file.

        Raises:
            RunError: As for the whole tensor.
        """
        shape = torch.Size([count, *self.shape[1:]])
        row_bytes = self.shape[1:].numel() * self.dtype.itemsize
        content = torch.empty(count * row_bytes, dtype=torch.uint8)
        self._read(content.numpy().data, self.offset + start * row_bytes)
        return content.view(self.dtype).view(shape)

    def _read(self, room: memoryview, offset: int) -> None:
        starts = range(0, len(room), PART_BYTES)
        try:
            with open_regular(self.path, self.shown) as file:
                fill = functools.partial(_fill, file.fileno(), room, offset)
                done = sum(map(fill, starts) if len(starts) < 2 else READERS.map(fill, starts))
                now = file_state(file)
        except OSError as error:
            raise RunError(
                f"{self.shown} can no longer be read ({error.strerror}), and a model that is not in memory needs it: "
                "reconnect the disk, and resume or start again."
            ) from error
        if done < len(room):
            raise RunError(
                f"{self.shown} was truncated while it was in use (it ends within a tensor): fetch it again, and "
                "resume or start again."
            )
        if now != self.state:
            raise RunError(
                f"{self.shown} was changed while it was in use, and weights of two versions must not be mixed: put "
                "the earlier file back and resume, or start again."
            )


def _fill(descriptor: int, room: memoryview, offset: int, start: int) -> int:
    """Read a part of a tensor into place; returns the number of bytes read."""
    part, done = room[start : start + PART_BYTES], 0
    while done < len(part):
        count = os.preadv(descriptor, [part[done:]], offset + start + done)
        if count == 0:
            break
        done += count
    return done


class FileState(NamedTuple):
    """Attributes that change when a file is written to or replaced."""

    inode: int
    size: int
    modified_ns: int


def file_state(file: BinaryIO) -> FileState:
    """State of an open file.

    Raises:
        OSError: The disk fails.
    """
    found = os.fstat(file.fileno())
    return FileState(found.st_ino, found.st_size, found.st_mtime_ns)


def stored_tensors(folder: Path, files: Sequence[str], name: str, pinned: bool) -> dict[str, StoredTensor]:
    """The tensors of safetensors files by name; the headers have been checked by ``measure_weights``.

    Args:
        folder: The model's folder.
        files: Names of the files in it.
        name: What the model is called in messages.
        pinned: Whether tensors are read into page-locked memory.

    Raises:
        InputError: A file is in another format, or a tensor in an unsupported number format.
    """
    found: dict[str, StoredTensor] = {}
    for file in files:
        if not file.endswith(".safetensors"):
            raise InputError(
                f"{name} has its weights in {file}, but a model is streamed or sharded from safetensors only: convert "
                "them, for instance with transformers' save_pretrained, or give --model.placement resident."
            )
        path, shown = folder / file, f"{file} of {name}"
        with open_regular(path, shown) as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length))
            state = file_state(opened)
        for key, part in header.items():
            if key == "__metadata__":
                continue
            if part["dtype"] not in STORED_DTYPES:
                raise InputError(
                    f"{shown} holds {key} in the number format {part['dtype']}, which is neither streamed nor "
                    "sharded: use weights without quantisation, or give --model.placement resident."
                )
            start = 8 + length + part["data_offsets"][0]
            found[key] = StoredTensor(path, shown, STORED_DTYPES[part["dtype"]], part["shape"], start, pinned, state)
    return found
