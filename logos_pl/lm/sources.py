"""Locates a model on the Hub, in a folder or in the package, and determines its commit.

``config.json`` is requested from the Hub once per process: the response distinguishes a wrong name, a missing login and
a missing network, and fixes the commit of configuration, tokenizer and weights, even if ``main`` moves. The files of a
model on the Hub are in one folder, its snapshot at that commit, so that all other code handles folders only.
"""

import functools
import hashlib
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, FileMetadataError, HfHubHTTPError, HFValidationError
from huggingface_hub.utils import httpx

from logos_pl.demo import DEMO, MODEL_DIR
from logos_pl.errors import InputError, first_sentence
from logos_pl.io.files import is_utf8, real_path
from logos_pl.io.hub_errors import HubRequest, explain
from logos_pl.lm.hub_call import ask_hub
from logos_pl.lm.model_files import ADAPTER_FILE, TOKENIZER_FILES, VOCABULARY_FILES, check_files, read_json_object

MODEL_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "*.bin.index.json")
# All files except weights, cards and images; nothing in subfolders, which hold other formats.
SMALL_FILES = ("*.json", "*.txt", "*.model", "*.model.*", "*.tiktoken", "*.jinja")
# Errors of an unreachable Hub; the TimeoutError is that of `ask_hub`.
_UNREACHABLE = (httpx.TransportError, TimeoutError, FileMetadataError)
_DOWN = {408, 429, 500, 502, 503, 504}


class ModelSource(NamedTuple):
    """A located model.

    Attributes:
        model_id: Id used in results: the Hub id, ``demo``, or the folder's name.
        commit: Hub commit; None for a folder, whose files are hashed instead.
        config_file: The configuration file on this machine.
        cached_only: Whether the Hub is unreachable, so that only the local cache is available.
        named: Revision that was given in the name, as ``id@revision``; None if it was not.
    """

    model_id: str
    commit: str | None
    config_file: Path
    cached_only: bool = False
    named: str | None = None

    @property
    def folder(self) -> Path:
        """The folder that holds what has been fetched of the model."""
        return self.config_file.parent


def clean_name(model_id: str) -> str:
    """Last part of a model id: the name of folders and files."""
    return model_id.rstrip("/").rsplit("/", 1)[-1]


def split_revision(model_id: str) -> tuple[str, str | None]:
    """Id and revision of ``id@revision``; None where no revision is named. A folder may have an @ in its name.

    Raises:
        InputError: Nothing is before or behind the @.
    """
    if "@" not in model_id or _path(model_id).is_dir():
        return model_id, None
    name, _, revision = (
        model_id.rpartition("@") if _path(model_id.rpartition("@")[0] or ".").is_dir() else model_id.partition("@")
    )
    if not name or not revision:
        raise InputError(f"{model_id} does not name a model at a revision: give it as organisation/name@revision.")
    return name, revision


def folder_name(model_id: str, revision: str | None = None) -> str:
    """Name of the folders and files of a model; a revision in its name is part of it, so that none is mixed up."""
    return clean_name(model_id) if revision is None else f"{clean_name(model_id)}@{revision.replace('/', '-')}"


def folder_name_of(model_id: str) -> str:
    """``folder_name`` of a model as the user names it, determined without the Hub and without reading files.

    Raises:
        InputError: As ``filed_under``.
    """
    return folder_name(filed_under(model_id), split_revision(model_id)[1])


def filed_under(model_id: str) -> str:
    """Id used in results (``ModelSource.model_id``), determined without the Hub and without reading files.

    Raises:
        InputError: A folder's name cannot be written down, or a revision is named without a model.
    """
    model_id, _ = split_revision(model_id)
    if model_id == DEMO or not _path(model_id).is_dir():
        return model_id
    name = real_path(_path(model_id)).name
    if not is_utf8(name):
        raise InputError(f"{model_id} leads to {name!r}, which cannot be recorded, as it is not UTF-8; rename it.")
    return name


def locate(model_id: str, revision: str | None = None) -> ModelSource:
    """Locate a model and its commit, reading only its configuration.

    Within a process, a revision on the Hub is resolved to a commit once, on first use.

    Args:
        model_id: Hub id, folder or ``demo``; a Hub id may name a revision, as ``id@revision``.
        revision: Branch, tag or commit on the Hub.

    Raises:
        InputError: Unknown id or revision, no access, no network, two revisions, or a folder without configuration or
            with a revision, which only repositories have.
    """
    model_id, named = split_revision(model_id)
    if named is not None and revision not in (None, named):
        raise InputError(f"{model_id}@{named} names a revision, and {revision} is given as another: give one of them.")
    revision = named if revision is None else revision
    is_local = model_id == DEMO or _path(model_id).is_dir()
    if is_local and revision is not None:
        given = "it and the @ before it" if named else "--model.revision, or give it as null"
        raise InputError(
            f"The revision {revision} is of a repository on the Hub, and {model_id} is a folder: leave out {given}."
        )
    if model_id == DEMO:
        return _local(DEMO, MODEL_DIR)
    path = _path(model_id)
    if is_local:
        return _local(filed_under(model_id), path)
    if path.exists() or model_id.startswith((".", "/", "~")) or model_id.count("/") > 1:
        raise InputError(f"{model_id} is not a folder; give a folder with a model's files, a Hub id or `{DEMO}`.")
    return _on_hub(model_id, revision)._replace(named=named)


def _path(model_id: str) -> Path:
    try:
        path = Path(model_id).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:  # a name too long, no permission, an unknown ~user
        why = error.strerror if isinstance(error, OSError) else first_sentence(error)[:-1]
        raise InputError(
            f"{model_id} is neither a model id nor a folder that can be looked into ({why}); give a folder with a "
            f"model's files, a Hub id or `{DEMO}`."
        ) from error
    return path


@functools.cache
def _on_hub(model_id: str, revision: str | None) -> ModelSource:
    cached_only = not constants.is_offline_mode() and not _reachable(model_id, revision)
    try:
        config_file = Path(hf_hub_download(model_id, "config.json", revision=revision, local_files_only=cached_only))
    except (OSError, HFValidationError, EntryNotFoundError) as error:
        raise explain(error, HubRequest("model", model_id, revision)) from error
    # …/snapshots/<commit>/config.json
    source = ModelSource(model_id, config_file.parent.name, config_file, cached_only)
    if cached_only:
        warnings.warn(
            f"the Hub cannot be reached: {model_id} is read from the local cache, at commit {config_file.parent.name}.",
            stacklevel=2,
        )
    return source


def forget() -> None:
    """Forget located models, so that the Hub is queried again."""
    _on_hub.cache_clear()


def _reachable(model_id: str, revision: str | None) -> bool:
    """Whether the Hub responds at all; refusals are reported by the download, with their reasons."""
    try:
        url = hf_hub_url(model_id, "config.json", revision=revision)
        ask_hub(f"about {model_id}", lambda: get_hf_file_metadata(url))
    except HfHubHTTPError as error:
        return error.response.status_code not in _DOWN
    except _UNREACHABLE:
        return False
    except HFValidationError:
        return True
    return True


def _local(model_id: str, folder: Path) -> ModelSource:
    config_file = folder / "config.json"
    if not config_file.exists():
        if (folder / ADAPTER_FILE).is_file():
            raise InputError(
                f"the folder {folder} holds an adapter ({ADAPTER_FILE}) and no model; merge it into its base model, "
                "for instance with peft's merge_and_unload, and save that."
            )
        raise InputError(f"the folder {folder} has no config.json; give the folder that holds a model's files.")
    return ModelSource(model_id, None, config_file)


def fetch_small(source: ModelSource) -> Path:
    """The folder with configuration, index and tokenizer files of a model, downloaded if missing.

    Raises:
        InputError: They cannot be fetched, or one of them is invalid.
        RunError: They cannot be written to the disk.
    """
    return _fetch(source, SMALL_FILES)


def fetch_weights(source: ModelSource, names: list[str]) -> Path:
    """The folder with files of weights, downloaded if missing; files that a repository lacks are left out.

    Raises:
        InputError: They cannot be fetched, or one of them is invalid.
        RunError: They cannot be written to the disk.
    """
    if all((source.folder / name).exists() for name in names):
        return source.folder
    return _fetch(source, tuple(names))


def _fetch(source: ModelSource, patterns: tuple[str, ...]) -> Path:
    if source.commit is not None:
        try:
            snapshot_download(
                source.model_id,
                revision=source.commit,
                allow_patterns=["config.json", *patterns],  # the first is always there: no notice that nothing matches
                ignore_patterns=["*/*"],
                local_files_only=source.cached_only,
            )
        except (OSError, EntryNotFoundError, httpx.HTTPError) as error:
            forget()
            raise explain(error, HubRequest("model", source.model_id, source.commit)) from error
    check_files(source.folder, source.model_id)
    return source.folder


def read_config_dict(source: ModelSource) -> dict[str, Any]:
    """The raw configuration.

    Raises:
        InputError: The file is not a JSON object, or not a regular file.
    """
    return read_json_object(source.config_file, source.model_id)


def model_commit(source: ModelSource) -> str:
    """Hub commit, or ``sha256:…`` over a folder's configuration and weights."""
    return source.commit or files_digest(source.folder, MODEL_FILES)


def tokenizer_commit(source: ModelSource) -> str:
    """Hub commit, or ``sha256:…`` over a folder's tokenizer files."""
    return source.commit or files_digest(source.folder, TOKENIZER_FILES)


def files_digest(folder: Path, patterns: tuple[str, ...]) -> str:
    """``sha256:…`` over names and hashes of the matching files, in the order of their names.

    Files are hashed side by side: one core takes minutes for the shards of a large model.
    """
    paths = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    digest = hashlib.sha256()
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        for path, found in zip(paths, threads.map(_file_digest, paths), strict=True):
            digest.update(f"{path.name}\0{found}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def has_vocabulary(folder: Path) -> bool:
    """Whether a folder holds a tokenizer's vocabulary."""
    return any(path.is_file() for pattern in VOCABULARY_FILES for path in folder.glob(pattern))
