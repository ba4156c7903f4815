"""Resolves a Hub dataset, a local folder with the same layout, or a single file to its ordered shards.

The `datasets` library resolves configurations, splits and file patterns; `data.shards` reads the files, as a cursor
refers to a file and a row in it.
"""

import lzma
import os
import re
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import datasets
import yaml
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import HfApi
from huggingface_hub.utils import httpx

from logos_pl.data.dataset_folder import check_folder
from logos_pl.data.shards import FORMATS, PARQUET, Shard, shard_format
from logos_pl.data.streams import DECOMPRESSORS
from logos_pl.errors import InputError
from logos_pl.io.files import is_utf8, real_path
from logos_pl.io.hub_errors import HubRequest, explain, explaining, failed
from logos_pl.lm.hub_call import ask_hub
from logos_pl.settings.text import DocumentForm

DEMO = "demo"
# The configuration and revision used for a Hub dataset when neither is given.
KNOWN_DATASETS = {"HuggingFaceFW/fineweb-edu": ("CC-MAIN-2025-26", "v1.4.0")}
KINDS = ", ".join(sorted(FORMATS))
COMPRESSED = (
    f"{', '.join(sorted(kind for kind, form in FORMATS.items() if form != PARQUET))}, also with "
    f"{', '.join(DECOMPRESSORS)} after it, and .parquet"
)


class TextSource(NamedTuple):
    """A resolved dataset.

    Attributes:
        repo_id: Hub id, or the last part of a local path (so that no local paths are published).
        name: Configuration, if the dataset has any.
        split: Split.
        revision: Requested revision; None for a local dataset.
        commit: Commit of that revision; None for a local dataset.
        shards: All files of the split, in the order of the dataset.
    """

    repo_id: str
    name: str | None
    split: str
    revision: str | None
    commit: str | None
    shards: tuple[Shard, ...]

    def of_form(self, form: DocumentForm) -> "TextSource":
        """The same dataset, its rows read as text or as conversations."""
        return self._replace(shards=tuple(shard._replace(form=form) for shard in self.shards))


def resolve(dataset: str, name: str | None = None, split: str = "train", revision: str | None = None) -> TextSource:
    """Find the shards of a dataset.

    Args:
        dataset: `demo`, a local folder or file, or a Hub id.
        name: Configuration; None: the dataset's default.
        split: Split.
        revision: Branch, tag or commit of a Hub dataset; not for local datasets.

    Raises:
        InputError: Dataset, configuration, split or revision does not exist, needs a login or cannot be reached, or it
            has files of an unsupported format.
    """
    path = None if dataset == DEMO else _local(dataset)
    if revision is not None and (dataset == DEMO or path is not None):
        raise InputError(
            f"The revision {revision} needs a dataset on the Hub, but {dataset} is local: leave out "
            "--data.revision, or give it as null."
        )
    if dataset == DEMO:
        from logos_pl.demo import TEXT_DIR

        return _resolve_local(Path(TEXT_DIR), name, split)._replace(repo_id=DEMO)
    if path is not None:
        return _resolve_local(path, name, split)
    if dataset.startswith(("/", ".", "~")):
        raise InputError(
            f"There is no folder or file {dataset}; give an existing one or a Hub dataset with --data.dataset."
        )
    return _resolve_hub(dataset, name, split, revision)


def _local(dataset: str) -> Path | None:
    """Path of a local folder or file, or None if there is none."""
    if not dataset:
        raise InputError("--data.dataset is empty; give a folder, a file or a Hub dataset.")
    try:
        path = Path(dataset).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError):  # an invalid path, or the home folder of an unknown user
        return None


def _resolve_local(path: Path, name: str | None, split: str) -> TextSource:
    repo_id = real_path(path).name
    if not is_utf8(repo_id):
        raise InputError(f"{path} leads to {repo_id!r}, which cannot be recorded, as it is not UTF-8; rename it.")
    if path.is_file():
        if name is not None or split != "train":
            raise InputError(
                f"{path} is a single file, which has no configurations and only the split 'train'; "
                "leave out --data.name and --data.split."
            )
        return TextSource(
            repo_id, None, split, None, None, _checked((Shard(path.name, str(path.absolute())),), str(path))
        )
    root = real_path(path)
    check_folder(root, str(path))
    config_name, urls = _data_files(str(root), str(path), name, split, None)
    shards = tuple(Shard(Path(os.path.relpath(url, root)).as_posix(), url) for url in urls)
    outside = [url for url, shard in zip(urls, shards, strict=True) if shard.name.startswith("../") or "://" in url]
    if outside:
        raise InputError(
            f"{path} names {os.path.basename(outside[0])} as its data, which is outside the folder; put the files into "
            "it."
        )
    return TextSource(repo_id, config_name, split, None, None, _checked(shards, str(path)))


def _resolve_hub(dataset: str, name: str | None, split: str, revision: str | None) -> TextSource:
    known_name, known_revision = KNOWN_DATASETS.get(dataset, (None, None))
    name = known_name if name is None else name
    revision = known_revision if revision is None else revision
    commit = _commit(dataset, revision)
    config_name, urls = _data_files(dataset, dataset, name, split, commit)
    shards = tuple(Shard(url.split(f"@{commit}/", 1)[-1], url) for url in urls)
    return TextSource(dataset, config_name, split, revision or "main", commit, _checked(shards, dataset))


def _commit(dataset: str, revision: str | None) -> str:
    """Current commit of a Hub dataset's revision; all shards are read at this commit."""
    request = HubRequest("dataset", dataset, revision)
    with explaining(request):
        info = ask_hub(f"about the data set {dataset}", lambda: HfApi().dataset_info(dataset, revision=revision))
    if info.sha is None:
        raise failed("no repository", request)
    return str(info.sha)


def _data_files(
    path: str, shown: str, name: str | None, split: str, commit: str | None
) -> tuple[str | None, tuple[str, ...]]:
    """Name of the configuration, and URLs of the split's files in the order of the dataset."""
    # The builder creates folders in its cache, which may be read-only and is never used.
    with tempfile.TemporaryDirectory() as scratch, _explained(shown, name):
        config = datasets.load_dataset_builder(path, name=name, revision=commit, cache_dir=scratch).config
    splits = {str(key): tuple(map(str, files)) for key, files in (config.data_files or {}).items()}
    if split not in splits:
        raise InputError(
            f"Dataset {shown} has no split '{split}', only {', '.join(splits) or 'none'}; choose one with --data.split."
        )
    if not splits[split]:
        raise _no_files(shown)
    return None if config.name == "default" else config.name, splits[split]


@contextmanager
def _explained(shown: str, name: str | None) -> Iterator[None]:
    """Context of calls to `datasets`; turns their errors into one-sentence InputErrors."""
    try:
        yield
    except DatasetNotFoundError as error:
        raise failed("gated" if "gated" in str(error) else "no repository", HubRequest("dataset", shown)) from error
    except FileNotFoundError as error:  # also datasets' EmptyDatasetError and DataFilesNotFoundError
        raise _no_files(shown) from error
    except (RecursionError, yaml.YAMLError, TypeError, KeyError, OverflowError, AttributeError, IndexError) as error:
        # Raised for a card that is valid YAML but has unexpected contents.
        raise InputError(
            f"The card of dataset {shown} does not describe its files as `datasets` expects "
            f"({type(error).__name__}: {_flat(error)}); fix its README.md, or give a folder or file without one."
        ) from error
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
        # `datasets` opens archives to infer their format.
        raise InputError(
            f"An archive in dataset {shown} cannot be read ({type(error).__name__}: {_flat(error)}); remove it: files "
            f"must be {KINDS}."
        ) from error
    except ValueError as error:  # an unknown or missing configuration
        raise _choose_configuration(shown, name, error) from error
    except RuntimeError as error:  # a dataset that is a Python script
        raise InputError(f"Dataset {shown} cannot be read: {_flat(error)}; give a dataset of {KINDS} files.") from error
    except (httpx.HTTPError, ConnectionError) as error:  # all errors of huggingface_hub, including offline mode
        raise explain(error, HubRequest("dataset", shown)) from error
    except OSError as error:
        raise InputError(
            f"Dataset {shown} cannot be read ({error.strerror or _flat(error)}); make it readable, or give another."
        ) from error


def _checked(shards: tuple[Shard, ...], shown: str) -> tuple[Shard, ...]:
    """Return the shards after checking that all have a supported format."""
    strange = [shard.name for shard in shards if shard_format(shard.name) is None]
    if strange:
        raise InputError(
            f"{shown} holds {strange[0]}, which is not of a supported format ({COMPRESSED}); "
            "convert it, or give another dataset with --data.dataset."
        )
    return shards


def _flat(error: Exception) -> str:
    """Error message on one line, shortened, without the full stop."""
    line = " ".join(str(error).split()).rstrip(".")
    return line if len(line) <= 200 else f"{line[:200]}…"


def _choose_configuration(dataset: str, name: str | None, error: ValueError) -> InputError:
    """InputError for a missing configuration; the available ones are parsed from the message of `datasets`."""
    listed = re.search(r"(?:available configs|Available): (\[.*\])", str(error))
    if listed is None:
        return InputError(f"Dataset {dataset} cannot be read: {_flat(error)}; give a dataset of {KINDS} files.")
    wrong = "has several configurations" if name is None else f"has no configuration '{name}', only"
    return InputError(f"Dataset {dataset} {wrong} {listed[1]}; choose one with --data.name.")


def _no_files(dataset: str) -> InputError:
    return InputError(
        f"{dataset} holds no data files; give a dataset of files of these kinds ({KINDS}) with --data.dataset."
    )
