"""Finds local artifacts in a checkpoint folder or in a folder laid out as on the Hub."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from logos_pl.artifacts import json_codec
from logos_pl.artifacts.filenames import PROVENANCE_FILE
from logos_pl.artifacts.sealed import read_file
from logos_pl.artifacts.store import REPLACED
from logos_pl.errors import InputError
from logos_pl.hub.layout import KINDS, WORDS, Kind
from logos_pl.io.parsing import MAX_TEXT_BYTES, parse_json
from logos_pl.lm.loaded_as import LoadedAs


class LocalArtifact(NamedTuple):
    """A local artifact; ``loaded_as`` records how a quantised or adapted model was loaded."""

    kind: Kind
    model_id: str
    model_commit: str
    folder: Path
    loaded_as: LoadedAs | None = None


def find_artifacts(root: Path, models: Sequence[str] | None = None) -> list[LocalArtifact]:
    """Find artifacts in ``<kind>/<model>/`` or ``<kind>/<org>/<model>/``, except replaced ones.

    Args:
        root: Checkpoint folder.
        models: Ids of the models; None: all.

    Raises:
        InputError: There is none, none of a given model, or two of one model.
    """
    found = []
    for kind in KINDS:
        for path in sorted([*root.glob(f"{kind}/*/{PROVENANCE_FILE}"), *root.glob(f"{kind}/*/*/{PROVENANCE_FILE}")]):
            parts = path.relative_to(root).parts
            if not any(part.startswith(".") or REPLACED.fullmatch(part) for part in parts):
                found.append(_artifact(kind, path))
    there = sorted({artifact.model_id for artifact in found})
    missing = sorted(set(models or ()) - set(there))
    if missing or not found:
        wanted = f"artifact of {missing[0]}" if missing else "lens"
        raise InputError(
            f"There is no {wanted} in {os.path.relpath(root)}, which holds: {', '.join(there) or 'nothing'}; fit one, "
            "or give another --folder."
        )
    places: dict[tuple[Kind, str], Path] = {}
    for artifact in found:
        other = places.setdefault((artifact.kind, artifact.model_id), artifact.folder)
        if other != artifact.folder:
            raise InputError(
                f"{os.path.relpath(other)} and {os.path.relpath(artifact.folder)} both hold the {WORDS[artifact.kind]} "
                f"of {artifact.model_id}: move one away."
            )
    return [artifact for artifact in found if models is None or artifact.model_id in models]


def _artifact(kind: Kind, path: Path) -> LocalArtifact:
    given = parse_json(read_file(path, MAX_TEXT_BYTES).decode(errors="replace"), os.path.relpath(path))
    if not isinstance(given, dict) or not all(isinstance(given.get(key), str) for key in ("model_id", "model_commit")):
        raise InputError(f"{os.path.relpath(path)} lacks model_id or model_commit: fit or fetch it again.")
    mark = given.get("fingerprint")
    loaded = mark.get("loaded_as") if isinstance(mark, dict) else None
    loaded_as = (
        None if loaded is None else json_codec.from_plain(LoadedAs, loaded, f"{os.path.relpath(path)}: loaded_as")
    )
    return LocalArtifact(kind, given["model_id"], given["model_commit"], path.parent, loaded_as)
