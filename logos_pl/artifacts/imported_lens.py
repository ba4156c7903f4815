"""Imported lenses of any format: how they are located and read."""

import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from logos_pl.artifacts.jacobian_format import (
    CONFIG_YAML,
    JacobianFiles,
    JacobianOrigin,
    check_outline,
    jacobian_files,
    load_jacobian_format,
)
from logos_pl.artifacts.tuned_lens_format import (
    CONFIG_FILE,
    PARAMS_FILE,
    WANTED,
    FormatFiles,
    ImportedOrigin,
    find_format,
    load_format,
    read_config,
)
from logos_pl.errors import InputError
from logos_pl.io.hub_errors import HubRequest, explaining
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import Lens
from logos_pl.lm.frozen import FrozenLM

HUB_FILE = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)/(?P<path>[\w.-]+(?:/[\w.-]+)*\.pt)")
"""A file in a repository on the Hub: organisation, repository and path."""

REVISION = re.compile(r"(?P<source>.+)@(?P<revision>[\w.-][\w./-]*)")
NAMED = re.compile(r"(?P<name>[a-z][a-z0-9_]*)=(?P<source>.+)")
DEFAULT_NAME = "imported"
"""Name of an imported lens that is given without a name."""

Found = FormatFiles | JacobianFiles
Origin = ImportedOrigin | JacobianOrigin


def sources_by_name(given: str | Sequence[str] | Mapping[str, str] | None) -> dict[str, str]:
    """Sources of imported lenses by name, from the value of `--lens.imported`.

    Args:
        given: A source, `NAME=SOURCE`, a list of these, or a mapping; None: no lens.

    Raises:
        InputError: Two lenses have the same name.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return dict(given)
    pairs = [_named(part) for part in ([given] if isinstance(given, str) else given)]
    names = [name for name, _ in pairs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"--lens.imported gives two lenses the name {twice[0]}: give each a name of its own, as NAME=SOURCE."
        )
    return dict(pairs)


def _named(given: str) -> tuple[str, str]:
    found = None if os.path.lexists(given) else NAMED.fullmatch(given)
    return (DEFAULT_NAME, given) if found is None else (found["name"], found["source"])


def find_imported_lens(reference: str, model_id: str, revision: str | None = None) -> Found:
    """Locate the files of a lens, which are fetched if on the Hub.

    Args:
        reference: A folder of the `tuned-lens` package or a Space of such folders; the file of a Jacobian lens, a
            folder that holds one, or the file's place on the Hub, `owner/repository/path.pt`. What is on the Hub may
            end in `@` and a revision.
        model_id: The model; names the subfolder of a Space.
        revision: Branch, tag or commit on the Hub; None: as in `reference`, else main.

    Raises:
        InputError: There is none, a file is missing or of another kind, or the Hub refuses or cannot be reached.
        RunError: The files cannot be written to the disk.
    """
    path = Path(reference).expanduser()
    if path.is_dir():
        _refuse_revision(revision, reference)
        found = _in_folder(path, reference, model_id)
    elif path.is_file():
        _refuse_revision(revision, reference)
        found = jacobian_files(path)
    else:
        source, revision = _at_revision(reference, revision)
        place = HUB_FILE.fullmatch(source)
        remote = place is not None and not source.startswith(".")
        if source.endswith(".pt") and not remote:
            raise InputError(
                f"There is no folder or file {reference}: give an existing file of maps, or "
                "owner/repository/path.pt for one on the Hub."
            )
        found = (
            _fetch(place["repo"], place["path"], revision)
            if remote and place
            else find_format(source, model_id, revision)
        )
    if isinstance(found, FormatFiles):
        read_config(found.config)
    else:
        check_outline(found)
    return found


def _refuse_revision(revision: str | None, reference: str) -> None:
    if revision is not None:
        raise InputError(f"Revision {revision} cannot be read from {reference}, which is not on the Hub: leave it out.")


def _at_revision(reference: str, revision: str | None) -> tuple[str, str | None]:
    found = REVISION.fullmatch(reference)
    if found is None:
        return reference, revision
    if revision not in (None, found["revision"]):
        raise InputError(f"{reference} names another revision than {revision}: give only one of them.")
    return found["source"], found["revision"]


def _in_folder(folder: Path, reference: str, model_id: str) -> Found:
    files = sorted(path.name for path in folder.glob("*.pt") if path.name != PARAMS_FILE)
    if not files or (folder / CONFIG_FILE).exists() or (folder / PARAMS_FILE).exists():
        return find_format(reference, model_id)
    if len(files) > 1:
        raise InputError(
            f"{os.path.relpath(folder)} holds several lenses ({', '.join(files[:8])}): name one of the files."
        )
    return jacobian_files(folder / files[0])


def _fetch(repo_id: str, path: str, revision: str | None) -> JacobianFiles:
    """A file of maps from the Hub, with the configuration in its folder, if there is one."""
    where = repo_id if revision is None else f"{repo_id} at {revision}"
    missing = f"There is no file {path} in {where}: {WANTED}."
    with explaining(HubRequest("file", repo_id, revision, no_file=missing)):
        params = Path(hf_hub_download(repo_id, path, revision=revision))
        try:
            beside = posixpath.join(posixpath.dirname(path), CONFIG_YAML)
            config = Path(hf_hub_download(repo_id, beside, revision=revision))
        except EntryNotFoundError:  # most repositories have none; the lens then has no record of its model
            config = None
    return JacobianFiles(params, config, f"{repo_id}/{path}")


def load_found(found: Found, lm: FrozenLM, head: Head) -> tuple[Lens, Origin]:
    """Read a lens and check it against the model.

    Raises:
        InputError: A file is broken, or the model is not the one the lens was fitted on.
    """
    return load_format(found, lm, head) if isinstance(found, FormatFiles) else load_jacobian_format(found, lm, head)


def load_imported_lens(
    reference: str | os.PathLike[str], lm: FrozenLM, head: Head | None = None, *, revision: str | None = None
) -> tuple[Lens, Origin]:
    """Read an imported lens and check it against the model.

    Args:
        reference: As for ``find_imported_lens``.
        lm: The model.
        head: The model's head, if there is one to share.
        revision: Branch, tag or commit on the Hub.

    Returns:
        The lens, and where it comes from.

    Raises:
        InputError: A file is missing or broken, or the model is not the one the lens was fitted on.
        RunError: The files cannot be written to the disk.
    """
    found = find_imported_lens(os.fspath(reference), lm.model_id, revision)
    return load_found(found, lm, Head(lm.anatomy) if head is None else head)
