"""Files of earlier sweeps of a model: results are kept, incomplete files without readings are removed."""

import glob
import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from logos_pl.errors import InputError
from logos_pl.io.parsing import open_regular
from logos_pl.sweeps.filenames import GROWING_ENDINGS, TABLE_ENDINGS, WHOLE_ENDINGS
from logos_pl.sweeps.record_csv import contribution_header, next_token_header, position_header


def remove_leftovers(folder: Path, name: str) -> None:
    """Remove files of a model's sweep that was killed before its first prompt; requires that none is running."""
    at_once = [f".{file}.partial" for file in _patterns(name, WHOLE_ENDINGS)]
    hidden = _matching(folder, [*at_once, f".evaluation-{glob.escape(name)}.md.partial"])
    started = _matching(folder, [f"{file}.partial" for file in _patterns(name, GROWING_ENDINGS)])
    tables = [path for path in started if any(fnmatchcase(path.name, f"*{end}.partial") for end in TABLE_ENDINGS)]
    if tables and not any(map(_holds_record, tables)):
        hidden += started
    for path in hidden:
        path.unlink(missing_ok=True)


def refuse_results(folder: Path, name: str) -> None:
    """Check that a folder has no results of a model, complete or partial.

    Raises:
        InputError: It has; the message names the first file.
    """
    whole = _patterns(name, (*GROWING_ENDINGS, *WHOLE_ENDINGS))
    partial = [f"{file}.partial" for file in _patterns(name, GROWING_ENDINGS)]
    there = _matching(folder, [*whole, *partial, f"evaluation-{glob.escape(name)}.md"])
    if there:
        raise already_there(there[0])


def already_there(path: Path) -> InputError:
    """Error for a file that would be overwritten."""
    return InputError(
        f"{os.path.relpath(path)} exists from another sweep and will not be overwritten: "
        "move it away, or choose another --sweep.out_dir."
    )


def _holds_record(table: Path) -> bool:
    """Whether a table has more than a (partial) header; True for anything that is not a regular file."""
    if not table.is_file():
        return True
    with open_regular(table) as file:
        begin = file.read(2**16).decode(errors="replace")
    headers = (position_header(), next_token_header(), contribution_header())
    return not any(f"{','.join(header)}\n".startswith(begin) for header in headers)


def _patterns(name: str, endings: Sequence[str]) -> list[str]:
    return [f"output-{glob.escape(name)}{ending}" for ending in endings]


def _matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """Paths that match one of the patterns, including broken links, sorted."""
    return [folder / name for name in sorted(os.listdir(folder)) if any(fnmatchcase(name, p) for p in patterns)]
