"""Where a model comes from: the Hub, a folder, or the package; which commit; and what to say when it is not there.

The Hub is asked once, for ``config.json``: the answer tells a wrong name from a missing login from a missing network,
and pins the commit that every later file is read from.
"""

import errno
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from logos_pl.errors import InputError, LogosError, RunError

DEMO = "demo"
MODEL_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "*.bin.index.json")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
)
# What holds a vocabulary; the other tokenizer files only qualify it.
VOCABULARY_FILES = ("tokenizer.json", "vocab.*", "*.model", "*.tiktoken")
HASH_BYTES = 2**24


class Source(NamedTuple):
    """A model that was found.

    Attributes:
        model_id: What results are filed under: the Hub id, ``demo``, or the folder's name.
        place: What transformers loads from: Hub id or folder.
        commit: Hub commit; None for a folder, whose files are hashed instead.
        config_file: The configuration file on this machine.
    """

    model_id: str
    place: str
    commit: str | None
    config_file: Path

    @property
    def folder(self) -> Path | None:
        """The folder of a local model, None for one of the Hub."""
        return self.config_file.parent if self.commit is None else None


def clean_name(model_id: str) -> str:
    """Last part of a model id: the name of folders and files."""
    return model_id.rstrip("/").rsplit("/", 1)[-1]


def locate(model_id: str, revision: str | None = None) -> Source:
    """Finds a model and its commit, reading no more than its configuration.

    Raises:
        InputError: Unknown id or revision, no access, no network, or a folder without configuration.
    """
    if model_id == DEMO:
        from logos_pl.demo import MODEL_DIR

        return _local(DEMO, Path(MODEL_DIR))
    path = Path(model_id).expanduser()
    if path.is_dir():
        return _local(path.resolve().name, path)
    if path.exists() or model_id.startswith((".", "/", "~")) or model_id.count("/") > 1:
        raise InputError(f"{model_id} is not a folder; give a folder with a model's files, a Hub id or `{DEMO}`.")
    try:
        config_file = Path(hf_hub_download(model_id, "config.json", revision=revision))
    except (OSError, HFValidationError, EntryNotFoundError) as error:
        raise explain(error, model_id, revision) from error
    # …/snapshots/<commit>/config.json
    return Source(model_id, model_id, config_file.parent.name, config_file)


def _local(model_id: str, folder: Path) -> Source:
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise InputError(f"the folder {folder} has no config.json; give the folder that holds a model's files.")
    return Source(model_id, str(folder), None, config_file)


def read_config_dict(source: Source) -> dict[str, Any]:
    """The raw configuration.

    Raises:
        InputError: The file is not a JSON object.
    """
    try:
        config = json.loads(source.config_file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(
            f"config.json of {source.model_id} cannot be read ({error}); fetch the model again."
        ) from error
    if not isinstance(config, dict):
        raise InputError(f"config.json of {source.model_id} is not a JSON object; fetch the model again.")
    return config


def model_commit(source: Source) -> str:
    """Hub commit, or ``sha256:…`` over a folder's configuration and weights."""
    return source.commit or files_digest(source.config_file.parent, MODEL_FILES)


def tokenizer_commit(source: Source) -> str:
    """Hub commit, or ``sha256:…`` over a folder's tokenizer files."""
    return source.commit or files_digest(source.config_file.parent, TOKENIZER_FILES)


def files_digest(folder: Path, patterns: tuple[str, ...]) -> str:
    """``sha256:…`` over names and contents of the matching files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while piece := file.read(HASH_BYTES):
                digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def has_vocabulary(folder: Path) -> bool:
    """Whether a folder holds a tokenizer's vocabulary."""
    return any(path.is_file() for pattern in VOCABULARY_FILES for path in folder.glob(pattern))


def explain(error: BaseException, model_id: str, revision: str | None = None) -> LogosError:
    """The user's error for what the Hub or the disk raised, looked for through the chain of causes."""
    chain = causes(error)
    for kind, text in _hub_messages(model_id, revision):
        if any(isinstance(link, kind) for link in chain):
            return InputError(text)
    codes = {link.errno for link in chain if isinstance(link, OSError)}
    if codes & {errno.ENOSPC, errno.EDQUOT}:
        return RunError(f"the disk is full while {model_id} is fetched; free space or point HF_HOME to a larger disk.")
    if codes & {errno.EROFS, errno.EACCES}:
        return RunError(f"the cache folder for {model_id} cannot be written; point HF_HOME to a folder of yours.")
    return InputError(f"{model_id} cannot be loaded: {first_sentence(error)}")


def _hub_messages(model_id: str, revision: str | None) -> list[tuple[type[BaseException], str]]:
    """Kinds of failure, the more special ones first (a gated repository is also one that is not found)."""
    return [
        (HFValidationError, f"{model_id!r} is not a model id; give `organisation/name`, a folder or `{DEMO}`."),
        (
            GatedRepoError,
            f"{model_id} is gated and this machine has no access; accept its licence at {constants.ENDPOINT}/{model_id}"
            " and log in with `hf auth login`.",
        ),
        (
            RevisionNotFoundError,
            f"{model_id} has no revision {revision!r}; give a branch, tag or commit that exists on the Hub.",
        ),
        (
            RepositoryNotFoundError,
            f"there is no model {model_id!r} on the Hub that this machine may see; check the spelling, or log in with "
            "`hf auth login` if it is private.",
        ),
        (
            OfflineModeIsEnabled,
            f"{model_id} is not in the local cache and offline mode is on; unset HF_HUB_OFFLINE to fetch it, or give a "
            "local folder.",
        ),
        (
            LocalEntryNotFoundError,
            f"{model_id} is not in the local cache and the Hub cannot be reached; check the network, or give a local "
            "folder.",
        ),
        (EntryNotFoundError, f"{model_id} has no config.json on the Hub; it is not a model transformers can load."),
        (HfHubHTTPError, f"the Hub refused to serve {model_id} or failed; try again later."),
    ]


def first_sentence(error: BaseException) -> str:
    """The first line of an error, ended by one full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(" .:") + "."


def causes(error: BaseException) -> list[BaseException]:
    """An error with what it was raised from, the error itself first."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    return chain
