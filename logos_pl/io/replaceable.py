"""Which existing files an output may replace: those with the same first bytes."""

from pathlib import Path

from logos_pl.errors import InputError
from logos_pl.io.parsing import open_regular

PAGE_BEGIN = b"<!doctype html>"
PNG_BEGIN = b"\x89PNG\r\n\x1a\n"


def refuse_other_content(path: Path, begin: bytes, shown: str) -> None:
    """Check that a file is missing, empty, or of the kind that is to replace it.

    Args:
        path: The file.
        begin: First bytes of files of that kind.
        shown: What the file is called in the message.

    Raises:
        InputError: It is another kind of file.
        OSError: It cannot be read.
    """
    if not path.exists():
        return
    with open_regular(path, shown) as file:
        found = file.read(len(begin))
    if found not in (b"", begin):
        raise InputError(f"{shown} is a file of another kind and is not replaced: give another name, or remove it.")
