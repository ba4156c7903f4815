"""Checks of a local dataset folder before `datasets` reads it: size, cards and data files."""

import os
import re
from pathlib import Path

from huggingface_hub.repocard import REGEX_YAML_BLOCK

from logos_pl.data.shards import shard_format
from logos_pl.errors import InputError
from logos_pl.io.files import is_utf8
from logos_pl.io.parsing import parse_json, read_text
from logos_pl.io.yaml_parsing import parse_yaml

CARDS = ("README.md", ".huggingface.yaml", "dataset_infos.json")
"""Files that describe a dataset."""

MAX_ENTRIES = 100_000
"""Maximum number of files and folders in a dataset folder; a home folder or a disk has more and takes minutes."""

NO_FOLDER = re.compile(r"[*?\[\n\r]|::")
"""Characters in a path that `datasets` interprets as a glob pattern or a chained URL."""

NO_FILE = re.compile(r"[\n\r]|::")
"""Characters in a file name that make `datasets` skip the file silently."""


def check_folder(root: Path, shown: str) -> None:
    """Check a folder on which `datasets` might hang, skip files silently or fail with a traceback.

    Args:
        root: The folder, with links resolved.
        shown: Name of the folder in messages.

    Raises:
        InputError: It is not a folder or has too many files, a card is not YAML or JSON within bounds, a data file is
            not a regular file, or a path would be read as a pattern.
    """
    if not root.is_dir():
        raise InputError(f"{shown} is neither a folder nor a regular file; give one of these with --data.dataset.")
    if NO_FOLDER.search(str(root)):
        raise InputError(
            f"The folder {shown} cannot be read as a dataset, as its path holds one of * ? [ :: or a line break; "
            "rename it, or give a single file."
        )
    for card in CARDS:
        if (root / card).exists() and not (root / card).is_dir():
            _check_card(root / card, f"{shown}/{card}")
    entries = 0
    for folder, folders, files in os.walk(root):
        entries += len(folders) + len(files)
        if entries > MAX_ENTRIES:
            raise InputError(
                f"{shown} holds more than {MAX_ENTRIES:,} files and folders; give the folder of the text alone with "
                "--data.dataset."
            )
        for file in files:
            if shard_format(file) is not None:
                _check_file(Path(folder, file), root, shown)


def _check_file(path: Path, root: Path, shown: str) -> None:
    inside = os.path.relpath(path, root)
    if not os.path.isfile(path):
        raise InputError(f"{inside} in {shown} is not a regular file, or is a broken link; remove or fix it.")
    if NO_FILE.search(str(path)):
        raise InputError(f"{path.name!r} in {shown} cannot be read, as its name holds :: or a line break; rename it.")
    if not is_utf8(inside):
        raise InputError(f"{path.name!r} in {shown} cannot be recorded, as its name is not UTF-8; rename it.")


def _check_card(path: Path, shown: str) -> None:
    try:
        text = read_text(path, name=shown)
    except OSError as error:
        raise InputError(f"{shown} cannot be read ({error.strerror}); fix or remove it.") from error
    if path.suffix == ".json":
        described = parse_json(text, shown, "fix or remove it")
    else:
        block = REGEX_YAML_BLOCK.search(text)
        described = parse_yaml(text if path.suffix == ".yaml" else block[2] if block else "", shown)
    if described is not None and not isinstance(described, dict):
        raise InputError(f"{shown} is not a mapping that describes the dataset; fix or remove it.")
