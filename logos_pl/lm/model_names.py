"""Names of models: as given by the user, in results, and of folders. Needs neither the Hub nor any file."""

import re
from pathlib import Path

from logos_pl.demo import DEMO
from logos_pl.errors import InputError, first_sentence
from logos_pl.io.files import is_utf8, real_path
from logos_pl.lm.gguf_names import check_gguf_name, only_gguf

HUB_COMMIT = re.compile("[0-9a-f]{40}")
"""A commit on the Hub; that of a folder is `sha256:…`."""

MODEL_WANTED = f"give a folder with a model's files, a Hub id or `{DEMO}`"
"""Remedy in messages about something that is not a model."""


def clean_name(model_id: str) -> str:
    """Last part of a model id: the name of folders and files."""
    return model_id.rstrip("/").rsplit("/", 1)[-1]


def split_revision(model_id: str) -> tuple[str, str | None]:
    """Id and revision of ``id@revision``; the revision is None if not given. A folder may have an @ in its name.

    Raises:
        InputError: Nothing precedes or follows the @.
    """
    if "@" not in model_id or model_folder(model_id).is_dir():
        return model_id, None
    name, _, revision = (
        model_id.rpartition("@")
        if model_folder(model_id.rpartition("@")[0] or ".").is_dir()
        else model_id.partition("@")
    )
    if not name or not revision:
        raise InputError(f"{model_id} does not name a model at a revision: give it as organisation/name@revision.")
    return name, revision


def folder_name(model_id: str, revision: str | None = None) -> str:
    """Name of the folders and files of a model; with the given revision, to keep revisions apart."""
    return clean_name(model_id) if revision is None else f"{clean_name(model_id)}@{revision.replace('/', '-')}"


def folder_name_of(model_id: str) -> str:
    """``folder_name`` of a model as given by the user, determined without the Hub and without reading files.

    Raises:
        InputError: As ``filed_under``.
    """
    return folder_name(filed_under(model_id), split_revision(model_id)[1])


def filed_under(model_id: str, gguf: str | None = None) -> str:
    """Id used in results (``ModelSource.model_id``), determined without the Hub and without reading files.

    A GGUF model is named by its file, as its repository may hold others: ``org/FILE`` on the Hub, else ``FILE``.

    Raises:
        InputError: A folder's name cannot be written down, a GGUF file's name cannot be one, or a revision is named
            without a model.
    """
    model_id, _ = split_revision(model_id)
    is_local = model_id != DEMO and model_folder(model_id).is_dir()
    if is_local and gguf is None:
        gguf = only_gguf(model_folder(model_id))
    if gguf is not None:
        organisation, slash, _ = model_id.rpartition("/")
        return check_gguf_name(gguf) if is_local else f"{organisation}{slash}{check_gguf_name(gguf)}"
    return name_of_folder(model_id) if is_local else model_id


def name_of_folder(folder: str) -> str:
    """Name of a folder, after resolving links.

    Raises:
        InputError: It cannot be written down.
    """
    name = real_path(model_folder(folder)).name
    if not is_utf8(name):
        raise InputError(f"{folder} leads to {name!r}, which cannot be recorded, as it is not UTF-8; rename it.")
    return name


def model_folder(model_id: str) -> Path:
    """A model's name as a path.

    Raises:
        InputError: A folder of this name cannot be accessed.
    """
    try:
        path = Path(model_id).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:  # a name too long, no permission, an unknown ~user
        why = error.strerror if isinstance(error, OSError) else first_sentence(error)[:-1]
        raise InputError(
            f"{model_id} is neither a model id nor a folder that can be accessed ({why}); {MODEL_WANTED}."
        ) from error
    return path
