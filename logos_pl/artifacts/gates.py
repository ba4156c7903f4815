"""The gates' verdict goes into a tuned lens's folder: files, provenance and card, together or not at all."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from logos_pl.artifacts.card import model_card
from logos_pl.artifacts.names import CARD_FILE, COMPANION_FILE, GATE_FILES, PROVENANCE_FILE, WEIGHTS_FILE
from logos_pl.artifacts.provenance import Provenance
from logos_pl.artifacts.store import find_folder, replace_folder
from logos_pl.artifacts.tuned_lens import read_provenance, verified_files
from logos_pl.errors import RunError


def record_gates(
    path: str | os.PathLike[str],
    judged: Provenance,
    files: Mapping[str, bytes],
    kpis: dict[str, Any],
    acceptance: dict[str, Any],
) -> Provenance:
    """Put a verdict beside the lens it was passed on; an earlier verdict is replaced, the lens is not touched.

    Args:
        path: The lens's folder.
        judged: The provenance as it was read with the lens that was judged.
        files: Each of `GATE_FILES`.
        kpis: Figures of the gates, for the provenance.
        acceptance: Verdicts of the gates, for the provenance.

    Returns:
        The provenance as written.

    Raises:
        InputError: The lens in the folder has been altered.
        RunError: Another lens has taken the place of the judged one, or the disk refuses; the folder is as it was.
    """
    folder = find_folder(Path(path))
    provenance = read_provenance(folder)
    kept = {name: data for name, data in verified_files(folder, provenance).items() if name not in GATE_FILES}
    _refuse_another_lens(provenance, judged, Path(path))
    provenance = dataclasses.replace(provenance, kpis=kpis, acceptance=acceptance)
    content: dict[str, bytes | memoryview] = {**kept, **files}
    content[CARD_FILE] = model_card(provenance, len(kept[WEIGHTS_FILE])).encode()
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    text = dataclasses.replace(provenance, sha256=hashes).to_json()
    written = Provenance.from_json(text)  # what cannot be read back is not written
    replace_folder(Path(path), content | {PROVENANCE_FILE: text.encode()})
    return written


def _refuse_another_lens(there: Provenance, judged: Provenance, path: Path) -> None:
    """A fit may have replaced the lens while it was being judged; its verdict is not the new one's.

    Raises:
        RunError: The weights are others.
    """
    if any(there.sha256.get(name) != judged.sha256.get(name) for name in (WEIGHTS_FILE, COMPANION_FILE)):
        raise RunError(
            f"The lens in {os.path.relpath(path)} was replaced while the earlier one was judged, and nothing was "
            "recorded: run the test again."
        )
