"""Paths in a repository of lenses. Source: docs/method.md §8.

``tuned_lenses/<org>/<model>/``, ``prisms/<org>/<model>/`` and ``jacobians/<org>/<model>/`` hold an artifact each,
``LICENSES/<org>/<model>/`` the licence files of its model; ``INDEX.json`` and ``README.md`` are at the root.
"""

import re
from datetime import UTC, datetime
from typing import Literal, get_args

from logos_pl.errors import InputError

Kind = Literal["tuned_lenses", "prisms", "jacobians"]
KINDS: tuple[Kind, ...] = get_args(Kind)
WORDS: dict[Kind, str] = {"tuned_lenses": "tuned lens", "prisms": "Prism", "jacobians": "Jacobian lens"}

INDEX_FILE = "INDEX.json"
LICENCES_FOLDER = "LICENSES"
LOCAL_ORG = "_local"
"""Placeholder for the organisation of the bundled demo and of local models. It cannot collide with an organisation on
the Hub, whose names begin with a letter or digit."""

PART = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
MODEL_ID = re.compile(rf"(?:{PART}/)?{PART}")
REPO_ID = re.compile(rf"{PART}/{PART}")
TAG = re.compile(r"v(\d{4}\.\d{2}\.\d{2})(?:\.[1-9]\d*)?")


def model_path(model_id: str) -> str:
    """Return ``<org>/<model>``, the subfolder of a model for each kind of artifact.

    Raises:
        InputError: The id is not a valid model id, or would collide with a model without organisation.
    """
    if not MODEL_ID.fullmatch(model_id) or ".." in model_id or model_id.startswith(f"{LOCAL_ORG}/"):
        raise InputError(
            f"{model_id!r} is not a model id: give `organisation/name`, or the name of a local model alone."
        )
    return model_id if "/" in model_id else f"{LOCAL_ORG}/{model_id}"


def artifact_path(kind: Kind, model_id: str) -> str:
    """Folder of a model's artifact, from the root.

    Raises:
        InputError: As ``model_path``.
    """
    return f"{kind}/{model_path(model_id)}"


def refuse_unsafe_name(name: str, where: str) -> None:
    """Check that a file name cannot lead out of its folder.

    Raises:
        InputError: It has a separator, is hidden, or is empty.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._ +()-]*", name):
        raise InputError(f"{where} lists the file {name!r}, which may be outside its folder: do not use this copy.")


def refuse_unsafe_path(path: str, folder: str, where: str) -> None:
    """Check that a path stays inside a folder of the repository.

    Raises:
        InputError: It does not.
    """
    if not path.startswith(f"{folder}/"):
        raise InputError(f"{where} lists {path!r}, which is not under {folder}/: do not use this copy.")
    for part in path.split("/"):
        refuse_unsafe_name(part, where)


def check_repo_id(repo_id: str) -> None:
    """Check that the id of a repository has an organisation.

    Raises:
        InputError: It has none.
    """
    if not REPO_ID.fullmatch(repo_id):
        raise InputError(f"--repo_id {repo_id} is not the id of a repository: give `organisation/name`.")


def today() -> str:
    """Tag of a release made today (UTC)."""
    return datetime.now(UTC).strftime("v%Y.%m.%d")


def check_tag(tag: str) -> str:
    """Return the tag after checking it.

    Raises:
        InputError: It is not a valid release tag.
    """
    match = TAG.fullmatch(tag)
    if match is not None:
        try:
            datetime.strptime(match[1], "%Y.%m.%d")
        except ValueError:
            match = None
    if match is None:
        raise InputError(
            f"--tag {tag} is not a release: give a date, such as {today()}, or {today()}.1 for a second that day."
        )
    return tag
