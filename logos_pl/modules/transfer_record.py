"""Records of lenses on models they were not fitted on: what `validate` and `test` measure, and `predict` reports."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from logos_pl.artifacts.transfer import DepthKl, Transfer, depth_kl, text_words
from logos_pl.data.evaluation_text import ValidationText
from logos_pl.errors import InputError
from logos_pl.io.files import make_folders, replace_file
from logos_pl.io.fitting import print_table
from logos_pl.io.parsing import MAX_TEXT_BYTES, parse_json, read_text
from logos_pl.io.terminal import say

OTHER_TEXT = "KL on two texts does not compare the models, so validate on the text of the fit"


def record_path(folder: Path, lens: str, identity: str, transfer: Transfer) -> Path:
    """File of a record: one per lens and commit of the model.

    Args:
        folder: Folder of the records.
        lens: Name of the lens.
        identity: Value that identifies the lens.
        transfer: The lens on the model.
    """
    key = hashlib.sha256(f"{identity}\0{transfer.model_id}\0{transfer.model_commit}".encode()).hexdigest()
    return folder / f"{lens}-{key[:16]}.json"


def with_record(transfer: Transfer, path: Path) -> Transfer:
    """The transfer with the held-out KL of an earlier validation, if there is one."""
    try:
        given = parse_json(read_text(path, MAX_TEXT_BYTES), os.path.relpath(path))
        text, depths = str(given["text"]), given["kl_bits"]
        here = {
            percent: DepthKl(int(at["row"]), float(at["norm"]), float(at["lens"])) for percent, at in depths.items()
        }
    except FileNotFoundError:
        return transfer
    except (InputError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{os.path.relpath(path)} is not a record of a validation: remove it, and validate again."
        ) from error
    if {percent: at.row for percent, at in here.items()} != {p: at.row for p, at in transfer.recorded.items()}:
        raise InputError(f"{os.path.relpath(path)} has other rows than the lens: remove it, and validate again.")
    return dataclasses.replace(transfer, here=here, text_here=text)


def measured(transfer: Transfer, readings: Mapping[str, Mapping[str, Any]], lens: str, text: str) -> Transfer:
    """The transfer with the held-out KL of this run.

    Args:
        transfer: The lens on the model.
        readings: Means by lens, quantity and row.
        lens: Name of the lens.
        text: The text, in words.
    """
    rows = {percent: at.row for percent, at in transfer.recorded.items()}
    return dataclasses.replace(transfer, here=depth_kl(rows, readings["norm"], readings[lens]), text_here=text)


def text_of(data: ValidationText) -> str:
    """The held-out text of a run in words."""
    source, settings = data.text.source, data.settings
    return text_words(source.repo_id, source.name, settings.format, settings.special_tokens)


def write_record(path: Path, transfer: Transfer) -> None:
    """Write the held-out KL of this run.

    Raises:
        OSError: The file cannot be written.
    """
    assert transfer.here is not None
    make_folders(path.parent)
    depths = {percent: dataclasses.asdict(at) for percent, at in transfer.here.items()}
    plain = {"text": transfer.text_here, "kl_bits": depths}
    replace_file(path, (json.dumps(plain, indent=1, allow_nan=False) + "\n").encode())


def print_transfer(transfer: Transfer, lens: str) -> None:
    """Print the held-out KL at the fit and here, side by side."""
    here = transfer.here or {}
    say(f"\nKL(final‖row) of the {lens} lens in bits on held-out text: at its fit on {transfer.fitted_on}, and here")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in _headings(lens):
        table.add_column(heading, justify="right", no_wrap=True)
    for percent, at in transfer.recorded.items():
        now = here.get(percent)
        cells = ("–", "–") if now is None else (f"{now.norm:.3f}", f"{now.lens:.3f}")
        table.add_row(f"{percent}%", str(at.row), f"{at.norm:.3f}", f"{at.lens:.3f}", *cells)
    print_table(table)
    if not transfer.of_one_text:
        say(f"At the fit it was on {transfer.text}, here on {transfer.text_here}: {OTHER_TEXT}.")


def _headings(lens: str) -> Sequence[str]:
    return "depth", "row", "at the fit\nnorm", f"\n{lens}", "here\nnorm", f"\n{lens}"


def summary(transfer: Transfer) -> str:
    """Held-out KL at the fit and here in one sentence, for commands that read no held-out text."""
    then = ", ".join(f"{percent}% {at.lens:.3f}" for percent, at in transfer.recorded.items())
    if transfer.here is None:
        return (
            f"its held-out KL at the fit was {then} bits at these depths; on this model it is unknown: "
            "`logos-pl validate --lens.transfer true` measures it"
        )
    now = ", ".join(f"{percent}% {at.lens:.3f}" for percent, at in transfer.here.items())
    both = f"its held-out KL at the fit was {then} bits at these depths; on this model it is {now}"
    if transfer.of_one_text:
        return both
    return f"{both}; the first is on {transfer.text}, the second on {transfer.text_here}: {OTHER_TEXT}"
