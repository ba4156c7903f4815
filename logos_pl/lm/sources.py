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
from logos_pl.errors import InputError
from logos_pl.io.hub_errors import HubRequest, What, explain
from logos_pl.lm.gguf_names import ENDING, check_gguf_name, only_gguf
from logos_pl.lm.hub_call import ask_hub
from logos_pl.lm.model_files import ADAPTER_FILE, TOKENIZER_FILES, VOCABULARY_FILES, check_files, read_json_object
from logos_pl.lm.model_names import MODEL_WANTED as MODEL_WANTED
from logos_pl.lm.model_names import clean_name as clean_name
from logos_pl.lm.model_names import filed_under as filed_under
from logos_pl.lm.model_names import folder_name as folder_name
from logos_pl.lm.model_names import folder_name_of as folder_name_of
from logos_pl.lm.model_names import model_folder, name_of_folder
from logos_pl.lm.model_names import split_revision as split_revision

MODEL_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "*.bin.index.json")
# All files except weights, cards and images; no subfolders, which hold other formats.
SMALL_FILES = ("*.json", "*.txt", "*.model", "*.model.*", "*.tiktoken", "*.jinja")
# Errors of an unreachable Hub; TimeoutError comes from `ask_hub`.
_UNREACHABLE = (httpx.TransportError, TimeoutError, FileMetadataError)
_DOWN = {408, 429, 500, 502, 503, 504}


class ModelSource(NamedTuple):
    """A located model.

    Attributes:
        model_id: Id used in results: the Hub id, ``demo``, or the folder's name.
        commit: Hub commit; None for a folder, whose files are hashed instead.
        config_file: The configuration file on this machine; for a GGUF model, the GGUF file, which holds everything.
        cached_only: Whether the Hub is unreachable, so that only the local cache is available.
        named: Revision given in the name, as ``id@revision``; None if there is none.
        repo_id: Hub id or folder name that holds the GGUF file; None without one.
    """

    model_id: str
    commit: str | None
    config_file: Path
    cached_only: bool = False
    named: str | None = None
    repo_id: str | None = None

    @property
    def folder(self) -> Path:
        """The folder that holds what has been fetched of the model."""
        return self.config_file.parent

    @property
    def gguf(self) -> Path | None:
        """The GGUF file; None for an ordinary model."""
        return None if self.repo_id is None else self.config_file


def locate(model_id: str, revision: str | None = None, gguf: str | None = None) -> ModelSource:
    """Locate a model and its commit, reading only its configuration; a GGUF file on the Hub is fetched.

    Within a process, a revision on the Hub is resolved to a commit once, on first use.

    Args:
        model_id: Hub id, folder or ``demo``; a Hub id may name a revision, as ``id@revision``.
        revision: Branch, tag or commit on the Hub.
        gguf: Name of a GGUF file in that folder or repository; None: the only one of a folder without other weights.

    Raises:
        InputError: Unknown id or revision, no access, no network, two revisions, or a folder without configuration or
            with a revision, which only repositories have; or there is no such GGUF file.
    """
    model_id, named = split_revision(model_id)
    if named is not None and revision not in (None, named):
        raise InputError(
            f"{model_id}@{named} names a revision, but {revision} is given as well: give only one of them."
        )
    revision = named if revision is None else revision
    is_local = model_id == DEMO or model_folder(model_id).is_dir()
    if is_local and revision is not None:
        given = "it and the @ before it" if named else "--model.revision, or give it as null"
        raise InputError(f"Only a repository on the Hub has revisions, and {model_id} is a folder: leave out {given}.")
    if model_id == DEMO and gguf is None:
        return _local(DEMO, MODEL_DIR)
    path = MODEL_DIR if model_id == DEMO else model_folder(model_id)
    if is_local:
        gguf = only_gguf(path) if gguf is None else check_gguf_name(gguf)
        return _local(filed_under(model_id), path) if gguf is None else _local_gguf(model_id, path / gguf)
    if path.exists() or model_id.startswith((".", "/", "~")) or model_id.count("/") > 1:
        file = path.is_file() and path.suffix == ENDING
        remedy = f"give its folder, and {path.name} as --model.gguf" if file else MODEL_WANTED
        raise InputError(f"{model_id} is not a folder; {remedy}.")
    if gguf is None:
        return on_hub(model_id, revision)._replace(named=named)
    found = on_hub(model_id, revision, check_gguf_name(gguf))
    return found._replace(model_id=filed_under(model_id, gguf), repo_id=model_id, named=named)


@functools.cache
def on_hub(model_id: str, revision: str | None, file: str = "config.json") -> ModelSource:
    """Locate a repository by fetching one of its files; resolved once per process.

    Raises:
        InputError: Unknown id or revision, no such file, no access, no network.
        RunError: The disk fails.
    """
    cached_only = not constants.is_offline_mode() and not _reachable(model_id, revision, file)
    try:
        config_file = Path(hf_hub_download(model_id, file, revision=revision, local_files_only=cached_only))
    except (OSError, HFValidationError, EntryNotFoundError) as error:
        what: What = "model" if file == "config.json" else "file"
        no_file = f"{model_id} has no {file} on the Hub: check the name of the file and of the repository."
        raise explain(error, HubRequest(what, model_id, revision, no_file)) from error
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
    on_hub.cache_clear()


def _reachable(model_id: str, revision: str | None, file: str) -> bool:
    """Whether the Hub responds at all; refusals are reported by the download, with their reasons."""
    try:
        url = hf_hub_url(model_id, file, revision=revision)
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
                f"the folder {folder} holds an adapter ({ADAPTER_FILE}), not a model; give its base as the model, and "
                f"this folder as --model.adapter {folder}."
            )
        raise InputError(f"the folder {folder} has no config.json; give the folder that holds a model's files.")
    return ModelSource(model_id, None, config_file)


def _local_gguf(model_id: str, path: Path) -> ModelSource:
    if not path.exists():
        there = sorted(found.name for found in path.parent.glob("*.gguf"))
        remedy = f"--model.gguf can be {', '.join(there)}" if there else "it holds no GGUF file"
        raise InputError(f"the folder {path.parent} has no {path.name}; {remedy}.")
    folder = DEMO if model_id == DEMO else name_of_folder(model_id)
    return ModelSource(path.name, None, path, repo_id=folder)


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
                source.repo_id or source.model_id,
                revision=source.commit,
                # The first is always there: no notice that nothing matches.
                allow_patterns=[source.config_file.name, *patterns],
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
    """Hub commit, or ``sha256:…`` over a folder's configuration and weights, or over its GGUF file."""
    return source.commit or files_digest(source.folder, MODEL_FILES if source.gguf is None else (source.gguf.name,))


def tokenizer_commit(source: ModelSource) -> str:
    """Hub commit, or ``sha256:…`` over a folder's tokenizer files, or over the GGUF file that holds the tokenizer."""
    of_file = source.gguf is not None and not has_vocabulary(source.folder)
    return source.commit or files_digest(source.folder, (source.config_file.name,) if of_file else TOKENIZER_FILES)


def files_digest(folder: Path, patterns: tuple[str, ...]) -> str:
    """``sha256:…`` over names and hashes of the matching files, in the order of their names.

    Files are hashed in parallel: one core takes minutes for the shards of a large model.
    """
    paths = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    digest = hashlib.sha256()
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        for path, found in zip(paths, threads.map(file_digest, paths), strict=True):
            digest.update(f"{path.name}\0{found}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def file_digest(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def has_vocabulary(folder: Path) -> bool:
    """Whether a folder holds a tokenizer's vocabulary."""
    return any(path.is_file() for pattern in VOCABULARY_FILES for path in folder.glob(pattern))
