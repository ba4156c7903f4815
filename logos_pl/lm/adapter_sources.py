"""Locates an adapter of peft in a folder or on the Hub. Imports neither torch nor transformers."""

from pathlib import Path
from typing import NamedTuple

from huggingface_hub import snapshot_download
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.utils import httpx

from logos_pl.errors import InputError
from logos_pl.io.files import is_utf8, real_path
from logos_pl.io.hub_errors import HubRequest, explain
from logos_pl.lm.model_files import ADAPTER_FILE
from logos_pl.lm.model_names import filed_under, folder_name, split_revision
from logos_pl.lm.sources import files_digest, on_hub

FILES = (ADAPTER_FILE, "adapter_model.safetensors", "adapter_model.bin")


class AdapterSource(NamedTuple):
    """A located adapter.

    Attributes:
        adapter_id: Id used in results: the Hub id, or the folder's name.
        commit: Hub commit, or ``sha256:…`` over its files.
        folder: The folder that holds its files.
    """

    adapter_id: str
    commit: str
    folder: Path


def adapter_id(given: str) -> str:
    """Id used in results, determined without the Hub and without reading files.

    Args:
        given: A folder, or ``organisation/name`` on the Hub, with ``@revision`` if it is not the default branch.

    Raises:
        InputError: A folder's name cannot be written down.
    """
    folder = _folder(given)
    if folder is None:
        return given.partition("@")[0]
    name = real_path(folder).name
    if not is_utf8(name):
        raise InputError(f"{given} leads to {name!r}, which cannot be recorded, as it is not UTF-8; rename it.")
    return name


def recorded_id(model_id: str, gguf: str | None, adapter: str | None) -> str:
    """Id of a model in results: the adapter's for an adapted model, with the file's name for a GGUF model.

    Args:
        model_id: The model as the user names it.
        gguf: Name of its GGUF file; None if there is none.
        adapter: Its adapter as the user names it; None likewise.

    Raises:
        InputError: A name cannot be written down.
    """
    return filed_under(model_id, gguf) if adapter is None else adapter_id(adapter)


def named_revision(model_id: str, adapter: str | None) -> str | None:
    """Revision in folder names: the one given with the adapter or, without an adapter, with the model.

    Args:
        model_id: The model as the user names it.
        adapter: Its adapter as the user names it; None if there is none.

    Raises:
        InputError: A name with an @ does not name a revision.
    """
    if adapter is None:
        return split_revision(model_id)[1]
    return None if _folder(adapter) is not None else adapter.partition("@")[2] or None


def recorded_folder(model_id: str, gguf: str | None, adapter: str | None) -> str:
    """Name of the folders and files of a model: its id in results, with the revision given with it.

    Args:
        model_id: The model as the user names it.
        gguf: Name of its GGUF file; None if there is none.
        adapter: Its adapter as the user names it; None likewise.

    Raises:
        InputError: A name cannot be written down.
    """
    return folder_name(recorded_id(model_id, gguf, adapter), named_revision(model_id, adapter))


def find_adapter(given: str) -> AdapterSource:
    """Locate an adapter; one on the Hub is fetched.

    Args:
        given: As for ``adapter_id``.

    Raises:
        InputError: There is none, or it cannot be fetched.
        RunError: The disk fails.
    """
    folder = _folder(given)
    if folder is not None:
        if not (folder / ADAPTER_FILE).exists():
            raise InputError(f"{given} is not an adapter: it has no {ADAPTER_FILE}; give the folder of one.")
        return AdapterSource(adapter_id(given), files_digest(folder, FILES), folder)
    name, _, revision = given.partition("@")
    if given.startswith((".", "/", "~")) or name.count("/") != 1 or given.endswith("@"):
        raise InputError(f"The adapter {given} is neither a folder nor `organisation/name` on the Hub: give one.")
    source = on_hub(name, revision or None, ADAPTER_FILE)
    assert source.commit is not None
    try:
        snapshot_download(name, revision=source.commit, allow_patterns=list(FILES), local_files_only=source.cached_only)
    except (OSError, EntryNotFoundError, httpx.HTTPError) as error:
        raise explain(error, HubRequest("model", name, source.commit)) from error
    return AdapterSource(name, source.commit, source.folder)


def _folder(given: str) -> Path | None:
    try:
        path = Path(given).expanduser()
        return path if given and path.is_dir() else None
    except (OSError, RuntimeError):  # a name too long, no permission, an unknown ~user
        return None
