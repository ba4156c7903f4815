"""The ordered shards of what a user names: a Hub dataset, a folder laid out like one, or a single file.

The `datasets` library does the resolving, so that configurations, splits and file patterns mean what they mean
everywhere else; the shards themselves are read by `data.shards`, because a cursor has to name a file and a row in it.
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
from logos_pl.io.hub_errors import Asked, explain, explaining, failed
from logos_pl.lm.hub_call import ask_hub

DEMO = "demo"
# The configuration and revision used for a Hub dataset when neither is given.
KNOWN_DATASETS = {"HuggingFaceFW/fineweb-edu": ("CC-MAIN-2025-26", "v1.4.0")}
KINDS = ", ".join(sorted(FORMATS))
COMPRESSED = (
    f"{', '.join(sorted(kind for kind, form in FORMATS.items() if form != PARQUET))}, also with "
    f"{', '.join(DECOMPRESSORS)} after it, and .parquet"
)


class TextSource(NamedTuple):
    """A dataset as it was found.

    Attributes:
        repo_id: The Hub id, or the last part of a local path (no machine's paths in what is published).
        name: The configuration, where the dataset has any.
        split: The split.
        revision: The revision that was asked for; None for a local copy.
        commit: The Hub's commit that it stood for; None for a local copy.
        shards: Every file of the split, in the order of the dataset.
    """

    repo_id: str
    name: str | None
    split: str
    revision: str | None
    commit: str | None
    shards: tuple[Shard, ...]


def resolve(dataset: str, name: str | None = None, split: str = "train", revision: str | None = None) -> TextSource:
    """Finds the shards of a dataset.

    Args:
        dataset: `demo`, a local folder or file, or a Hub id.
        name: Configuration; None takes the dataset's default one.
        split: Split.
        revision: Branch, tag or commit of a Hub dataset; local copies have none.

    Raises:
        InputError: If there is no such dataset, configuration, split or revision, if it cannot be reached or read
            without a login, or if it holds files of a kind that is not read here.
    """
    path = None if dataset == DEMO else _local(dataset)
    if revision is not None and (dataset == DEMO or path is not None):
        raise InputError(
            f"The revision {revision} is of a dataset on the Hub, and {dataset} is a local one: leave out "
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
    """The folder or file of that name, or None where there is none that can be seen."""
    if not dataset:
        raise InputError("--data.dataset is empty; give a folder, a file or a Hub dataset.")
    try:
        path = Path(dataset).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError):  # a name that no disk takes, or the home of nobody
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
            f"{path} names {os.path.basename(outside[0])} as its data, which is not in it; put the files into the "
            "folder."
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
    """The commit that a Hub dataset's revision stands for at this moment; all shards are then read at that commit."""
    asked = Asked("dataset", dataset, revision)
    with explaining(asked):
        info = ask_hub(f"about the data set {dataset}", lambda: HfApi().dataset_info(dataset, revision=revision))
    if info.sha is None:
        raise failed("no repository", asked)
    return str(info.sha)


def _data_files(
    path: str, shown: str, name: str | None, split: str, commit: str | None
) -> tuple[str | None, tuple[str, ...]]:
    """The configuration's name and the split's file addresses, in the dataset's own order."""
    # The builder makes folders in its cache, which may be read-only and which nothing is ever put into.
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
    """Inside, calls of `datasets` alone: what they raise comes out as one sentence."""
    try:
        yield
    except DatasetNotFoundError as error:
        raise failed("gated" if "gated" in str(error) else "no repository", Asked("dataset", shown)) from error
    except FileNotFoundError as error:  # also datasets' EmptyDatasetError and DataFilesNotFoundError
        raise _no_files(shown) from error
    except (RecursionError, yaml.YAMLError, TypeError, KeyError, AttributeError, IndexError) as error:
        # What it meets a card with that is YAML and does not say what it should.
        raise InputError(
            f"The card of dataset {shown} does not describe its files as `datasets` wants it "
            f"({type(error).__name__}: {_flat(error)}); mend its README.md, or give a folder or file without one."
        ) from error
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
        # It looks into archives for their kind of data before any file is asked for.
        raise InputError(
            f"An archive in dataset {shown} cannot be read ({type(error).__name__}: {_flat(error)}); remove it: wanted "
            f"is one of {KINDS} files."
        ) from error
    except ValueError as error:  # an unknown or missing configuration
        raise _choose_configuration(shown, name, error) from error
    except RuntimeError as error:  # a dataset that is a Python script
        raise InputError(f"Dataset {shown} cannot be read: {_flat(error)}; wanted is one of {KINDS} files.") from error
    except (httpx.HTTPError, ConnectionError) as error:  # all that huggingface_hub raises, offline mode too
        raise explain(error, Asked("dataset", shown)) from error
    except OSError as error:
        raise InputError(
            f"Dataset {shown} cannot be read ({error.strerror or _flat(error)}); make it readable, or give another."
        ) from error


def _checked(shards: tuple[Shard, ...], shown: str) -> tuple[Shard, ...]:
    """The shards, if all of them are of a kind that can be read."""
    strange = [shard.name for shard in shards if shard_format(shard.name) is None]
    if strange:
        raise InputError(
            f"{shown} holds {strange[0]}, which is not of a kind that is read here ({COMPRESSED}); "
            "convert it, or give another dataset with --data.dataset."
        )
    return shards


def _flat(error: Exception) -> str:
    """An error's message on one line, shortened, without its full stop."""
    line = " ".join(str(error).split()).rstrip(".")
    return line if len(line) <= 200 else f"{line[:200]}…"


def _choose_configuration(dataset: str, name: str | None, error: ValueError) -> InputError:
    """What `datasets` says about a configuration, in one sentence; only its message lists the ones there are."""
    listed = re.search(r"(?:available configs|Available): (\[.*\])", str(error))
    if listed is None:
        return InputError(f"Dataset {dataset} cannot be read: {_flat(error)}; wanted is one of {KINDS} files.")
    wrong = "has several configurations" if name is None else f"has no configuration '{name}', only"
    return InputError(f"Dataset {dataset} {wrong} {listed[1]}; choose one with --data.name.")


def _no_files(dataset: str) -> InputError:
    return InputError(
        f"{dataset} holds no data files; give a dataset of files of these kinds ({KINDS}) with --data.dataset."
    )
