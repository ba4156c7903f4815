"""Checks of the files in a model's folder before a library parses them: regular files, JSON, no Git LFS pointers.

A folder may come from anyone: a pipe would hang the command, and a path in the index of the shards could open
any file on this machine. Imports neither torch nor transformers, so that finding a model stays quick.
"""

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from logos_pl.errors import InputError
from logos_pl.io.parsing import MAX_TEXT_BYTES, MIB, open_regular, parse_json, read_text

ADAPTER_FILE = "adapter_config.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
)
# Those that hold a vocabulary; the others only supplement it.
VOCABULARY_FILES = ("tokenizer.json", "vocab.*", "*.model", "*.tiktoken")
READ_FILES = ("config.json", "generation_config.json", ADAPTER_FILE, "chat_template.*", *TOKENIZER_FILES)
"""Files other than weights that transformers opens."""
MAX_SMALL_BYTES = 256 * MIB
"""Maximum size of these files; the largest known tokenizers have 35 MB."""
MAX_NAMED_BYTES = MIB
"""JSON up to this size is parsed here, so that a damaged file can be named."""
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
INDEX_ENDING = ".index.json"
MAX_INDEX_BYTES = 64 * MIB
LFS_START = b"version https://git-lfs.github.com/spec/"
_SHARD_NAME = re.compile(r"[\w][\w.+ -]*")


def check_files(folder: Path, name: str) -> None:
    """Check all files other than weights that transformers opens.

    Args:
        folder: The model's folder.
        name: Name of the model in messages.

    Raises:
        InputError: A file is a pipe, a device, a folder or a Git LFS pointer, too large, or JSON other than an object;
            or the folder holds an adapter.
    """
    # Not with `glob`, which skips broken links.
    for path in sorted(path for path in folder.iterdir() if any(fnmatch(path.name, wanted) for wanted in READ_FILES)):
        refuse_pointer(path, name)
        size = path.stat().st_size
        if size > MAX_SMALL_BYTES:
            raise InputError(
                f"{path.name} of {name} has {size:,} bytes, but at most {MAX_SMALL_BYTES:,} are read; fetch it again."
            )
        if path.suffix == ".json" and size <= MAX_NAMED_BYTES:
            read_json_object(path, name)
    if (folder / ADAPTER_FILE).exists():
        raise InputError(
            f"{name} has an adapter next to its weights ({ADAPTER_FILE}), which is not read from there; move it "
            f"with its weights into a folder of its own and give that as --model.adapter, or remove {ADAPTER_FILE}."
        )


def read_json_object(path: Path, name: str, max_bytes: int = MAX_TEXT_BYTES) -> dict[str, Any]:
    """Read a JSON object that transformers also reads.

    Raises:
        InputError: It is not a JSON object, not a regular file, or too large.
    """
    refuse_pointer(path, name)
    shown = f"{path.name} of {name}"
    try:
        text = read_text(path, max_bytes, shown)
    except OSError as error:
        raise InputError(f"{shown} cannot be read ({error.strerror}); fetch the model again.") from error
    found = parse_json(text, shown, "fetch the model again", of_transformers=True)
    if not isinstance(found, dict):
        raise InputError(f"{shown} is not a JSON object; fetch the model again.")
    return found


def weight_names(given: object, name: str) -> tuple[str, ...]:
    """Possible names of the weights or their index, in the order in which transformers tries them.

    Args:
        given: Name in the configuration; None if there is none.
        name: Name of the model in messages.

    Raises:
        InputError: It is not a plain file name.
    """
    if given is None:
        return WEIGHT_FILES
    if not isinstance(given, str) or not _SHARD_NAME.fullmatch(given):
        raise InputError(
            f"config.json of {name} names the weights {given!r}, which is not the name of a file in its folder; remove "
            "`transformers_weights` from it."
        )
    return (given,)


def shards_of(folder: Path, index: str, name: str) -> list[str]:
    """Files listed in an index of shards, in order.

    Raises:
        InputError: It is not an index, or lists something other than a plain file name.
    """
    content = read_json_object(folder / index, name, MAX_INDEX_BYTES)
    shards = content.get("weight_map")
    if not isinstance(shards, dict) or not shards or not isinstance(content.get("metadata"), dict):
        raise InputError(f"{index} of {name} has no `weight_map` and `metadata`, both objects; fetch it again.")
    for shard in shards.values():
        if not isinstance(shard, str) or not _SHARD_NAME.fullmatch(shard):
            raise InputError(
                f"{index} of {name} names the file {shard!r}, which is not a plain file name; fetch the model again."
            )
    return sorted(set(shards.values()))


def refuse_pointer(path: Path, name: str) -> None:
    """Check that a file can be opened and is not a Git LFS pointer.

    Raises:
        InputError: It is a pointer, not a regular file, or cannot be read.
    """
    shown = f"{path.name} of {name}"
    try:
        with open_regular(path, shown) as file:
            start = file.read(len(LFS_START))
    except OSError as error:
        raise InputError(f"{shown} cannot be read ({error.strerror}); fetch it again, or remove it.") from error
    if start == LFS_START:
        raise InputError(f"{shown} is a Git LFS pointer, not the file: run `git lfs pull` in the model's folder.")
