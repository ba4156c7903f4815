"""Writes the verdict of the gates to a tuned lens's folder atomically: files, provenance and card."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from logos_pl.artifacts.card import model_card
from logos_pl.artifacts.filenames import BIAS_ONLY_FILE, CARD_FILE, GATE_FILES, GATES_FILE, WEIGHTS_FILE
from logos_pl.artifacts.gates_file import verdict_of
from logos_pl.artifacts.provenance import Provenance
from logos_pl.artifacts.sealed import sealed
from logos_pl.artifacts.store import rewrite_folder
from logos_pl.artifacts.tuned_lens import read_provenance, verified_files
from logos_pl.errors import RunError


def record_gates(path: str | os.PathLike[str], evaluated: Provenance, files: Mapping[str, bytes]) -> Provenance:
    """Record the verdict on a lens in its folder, replacing an earlier one; the lens itself is not modified.

    Args:
        path: Folder of the lens.
        evaluated: Provenance that was read with the evaluated lens.
        files: Contents of `GATE_FILES`; values in the provenance and on the card are taken from `gates.json`.

    Returns:
        The provenance as written.

    Raises:
        InputError: The lens in the folder has been altered, or `gates.json` holds no verdict on it.
        RunError: Another lens has replaced the evaluated one, or the folder cannot be written; it is unchanged.
    """
    written = evaluated

    def with_verdict(folder: Path) -> dict[str, bytes | memoryview]:
        nonlocal written
        provenance = read_provenance(folder)
        there = verified_files(folder, provenance)
        kept = {name: data for name, data in there.items() if name not in GATE_FILES}
        _refuse_another_lens(provenance, evaluated, Path(path))
        acceptance, kpis = verdict_of(files[GATES_FILE], provenance.model_id, provenance.model_commit)
        provenance = dataclasses.replace(provenance, kpis=kpis, acceptance=acceptance)
        content: dict[str, bytes | memoryview] = {**kept, **files}
        content[CARD_FILE] = model_card(provenance, len(kept[WEIGHTS_FILE])).encode()
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
        text = dataclasses.replace(provenance, sha256=hashes).to_json()
        written = Provenance.from_json(text)  # fails here rather than when read back
        return content | sealed(text)

    rewrite_folder(Path(path), with_verdict)
    return written


def _refuse_another_lens(there: Provenance, evaluated: Provenance, path: Path) -> None:
    """Check that the lens was not replaced by a fit during the test.

    Raises:
        RunError: The weights differ.
    """
    if any(there.sha256.get(name) != evaluated.sha256.get(name) for name in (WEIGHTS_FILE, BIAS_ONLY_FILE)):
        raise RunError(
            f"The lens in {os.path.relpath(path)} was replaced during the test of the earlier one, so nothing was "
            "recorded: run the test again."
        )
