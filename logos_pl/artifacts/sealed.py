"""``provenance.json``, which records the hashes of the other files, and ``provenance.json.sha256`` with its own hash.

This detects bytes damaged on disk or in transfer. It does not detect a deliberate change of both files; only a hash
from elsewhere, such as the one in a repository's index, does.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from logos_pl.artifacts.filenames import DIGEST_FILE, PROVENANCE_FILE
from logos_pl.errors import InputError
from logos_pl.io.parsing import MAX_TEXT_BYTES, read_bytes

REMEDY = "fetch the artifact again, or fit anew"
ANY_SIZE = 2**40
"""Maximum size of files that are verified by a hash."""
_MAX_DIGEST_BYTES = 1024


def sealed(provenance: str) -> dict[str, bytes]:
    """Contents of the two files, by name."""
    data = provenance.encode()
    return {PROVENANCE_FILE: data, DIGEST_FILE: _digest(data)}


def _digest(data: bytes) -> bytes:
    """Digest file in the format of `sha256sum --check`."""
    return f"{hashlib.sha256(data).hexdigest()}  {PROVENANCE_FILE}\n".encode()


def read_sealed(folder: Path) -> str:
    """Text of the provenance in a folder, verified by its hash.

    Raises:
        InputError: A file is missing, cannot be read, is of another kind or was altered.
    """
    files = {
        PROVENANCE_FILE: read_file(folder / PROVENANCE_FILE, MAX_TEXT_BYTES),
        DIGEST_FILE: read_file(folder / DIGEST_FILE, _MAX_DIGEST_BYTES),
    }
    return sealed_text(files, folder)


def sealed_text(files: Mapping[str, bytes], folder: Path) -> str:
    """Text of the provenance among an artifact's files, verified by its hash.

    Args:
        files: Contents by name.
        folder: Their folder, for the message.

    Raises:
        InputError: It has no hash, does not match it, or is not UTF-8.
    """
    path = os.path.relpath(folder / PROVENANCE_FILE)
    data, digest = files[PROVENANCE_FILE], files.get(DIGEST_FILE)
    if digest is None:
        raise InputError(f"{path} has no {DIGEST_FILE} in its folder: {REMEDY}.")
    if digest != _digest(data):
        found = hashlib.sha256(data).hexdigest()[:12]
        raise InputError(
            f"{path} or {DIGEST_FILE} was altered: the sha256 of the former is {found}…, and the latter records "
            f"another: {REMEDY}."
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {REMEDY}.") from error


def read_file(path: Path, max_bytes: int) -> bytes:
    """Contents of an artifact's file.

    Raises:
        InputError: It is missing, cannot be read, is not a regular file or is too large.
    """
    try:
        return read_bytes(path, max_bytes)
    except OSError as error:
        raise InputError(
            f"{os.path.relpath(path)} cannot be read ({error.strerror}): an artifact needs it; {REMEDY}."
        ) from error
