"""``INDEX.json``: contents of a repository of lenses, with the hash of every file."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from logos_pl.artifacts import json_codec
from logos_pl.artifacts.filenames import GATES_FILE, PROVENANCE_FILE
from logos_pl.artifacts.gates_file import verdict_of
from logos_pl.errors import InputError
from logos_pl.hub.layout import (
    INDEX_FILE,
    KINDS,
    LICENCES_FOLDER,
    TAG,
    Kind,
    artifact_path,
    model_path,
    refuse_unsafe_name,
    refuse_unsafe_path,
)
from logos_pl.io.parsing import parse_json, read_text

SCHEMA_VERSION = 1
VERDICTS = {True: "passed", False: "not passed", None: "not evaluated"}


@dataclass(frozen=True)
class Licence:
    """Licence of a model as stated in its repository.

    Attributes:
        id: Identifier in the model's metadata, such as ``apache-2.0``, or None.
        link: Link in the model's metadata, or None.
        files: Paths of the copied licence files, from the root.
    """

    id: str | None
    link: str | None
    files: list[str]


@dataclass(frozen=True)
class Entry:
    """One artifact.

    Attributes:
        path: Folder, from the root.
        tl_version: Release in which its files last changed.
        model_commit: Commit of its model.
        tokenizer_commit: Commit of the tokenizer; None if not recorded.
        num_bytes: Size of all files.
        gates_passed: Verdict of the gates; None if not evaluated.
        licence: Licence of the model.
        sha256: Hash of every file in the folder, by name.
    """

    path: str
    tl_version: str
    model_commit: str
    tokenizer_commit: str | None
    num_bytes: int
    gates_passed: bool | None
    licence: Licence
    sha256: dict[str, str]

    @property
    def size(self) -> str:
        """Size of all files, formatted."""
        return f"{self.num_bytes / 1e6:.1f} MB" if self.num_bytes >= 1e6 else f"{self.num_bytes / 1e3:.0f} kB"


@dataclass(frozen=True)
class Index:
    """Contents of ``INDEX.json``.

    Attributes:
        release: Tag of the last release.
        tuned_lenses: Entries of tuned lenses, by model id.
        prisms: Entries of Prism lenses, by model id.
        jacobians: Entries of Jacobian lenses, by model id.
        licences: SHA-256 of every file in ``LICENSES/``, by path from the root.
    """

    release: str
    tuned_lenses: dict[str, Entry] = field(default_factory=dict)
    prisms: dict[str, Entry] = field(default_factory=dict)
    jacobians: dict[str, Entry] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def entries(self, kind: Kind) -> dict[str, Entry]:
        """Entries of a kind, by model id."""
        found: dict[str, Entry] = getattr(self, kind)
        return found

    def with_entry(self, kind: Kind, model_id: str, entry: Entry) -> "Index":
        """Return the index with an entry added or replaced; sorted by model id."""
        entries = dict(sorted({**self.entries(kind), model_id: entry}.items()))
        changed: dict[str, Any] = {kind: entries}
        return dataclasses.replace(self, **changed)

    def __iter__(self) -> Iterator[tuple[Kind, str, Entry]]:
        for kind in KINDS:
            for model_id, entry in self.entries(kind).items():
                yield kind, model_id, entry

    def to_json(self) -> str:
        """Serialise as JSON."""
        return json_codec.to_json(self)

    @classmethod
    def from_json(cls, text: str) -> "Index":
        """Parse JSON and check every path.

        Raises:
            InputError: It is not JSON, has another schema version, an unknown or missing field, a wrong type, or a path
                that does not follow the layout.
        """
        given = parse_json(text, INDEX_FILE)
        version = given.get("schema_version") if isinstance(given, dict) else None
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{INDEX_FILE} has schema_version {version}, but this logos-pl reads {SCHEMA_VERSION}: "
                "use the version of logos-pl that wrote it."
            )
        # An index that predates Jacobian lenses has no list of them.
        index: Index = json_codec.from_plain(cls, {"jacobians": {}, **given}, INDEX_FILE)
        _refuse_other_tag(index.release, f"{INDEX_FILE}: release")
        for kind, model_id, entry in index:
            _refuse_other_paths(kind, model_id, entry)
        for path in index.licences:
            refuse_unsafe_path(path, LICENCES_FOLDER, INDEX_FILE)
        return index


def read_index(root: Path) -> Index:
    """Read the index of a folder.

    Raises:
        InputError: There is none, it is not a text file, or it is not a valid index.
    """
    path = root / INDEX_FILE
    if not path.exists():
        raise InputError(
            f"{root} has no {INDEX_FILE}: give a folder laid out as on the Hub, or make it with `logos-pl hub index`."
        )
    return Index.from_json(read_text(path))


def entry_of(
    kind: Kind, model_id: str, files: Mapping[str, bytes | memoryview], tl_version: str, licence: Licence
) -> Entry:
    """Entry of an artifact with the given files, including its provenance.

    Raises:
        InputError: The provenance is not JSON or lacks the model's commit, or ``gates.json`` holds no verdict.
    """
    commit, tokenizer_commit = commits_of(bytes(files[PROVENANCE_FILE]), f"{PROVENANCE_FILE} of {model_id}")
    return Entry(
        path=artifact_path(kind, model_id),
        tl_version=tl_version,
        model_commit=commit,
        tokenizer_commit=tokenizer_commit,
        num_bytes=sum(len(data) for data in files.values()),
        gates_passed=gates_passed(files, model_id, commit),
        licence=licence,
        sha256={name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
    )


def commits_of(provenance: bytes, name: str) -> tuple[str, str | None]:
    """Commits of the model and its tokenizer in a provenance; the latter may be None.

    Raises:
        InputError: It is not JSON, or lacks the model's commit.
    """
    try:
        given = parse_json(provenance.decode(), name)
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 text: fit or fetch the artifact again.") from error
    commits = (given.get("model_commit"), given.get("tokenizer_commit")) if isinstance(given, dict) else (None, None)
    if not isinstance(commits[0], str) or not isinstance(commits[1], str | None):
        raise InputError(f"{name} has no model_commit: fit or fetch the artifact again.")
    return commits[0], commits[1]


def gates_passed(files: Mapping[str, bytes | memoryview], model_id: str, model_commit: str) -> bool | None:
    """Verdict of the gates in an artifact's files; None if there is none.

    Raises:
        InputError: The file is not a verdict, or is for another model.
    """
    if GATES_FILE not in files:
        return None
    return verdict_of(bytes(files[GATES_FILE]), model_id, model_commit)[0].passed


def _refuse_other_paths(kind: Kind, model_id: str, entry: Entry) -> None:
    where = f"{INDEX_FILE}, {model_id},"
    if entry.path != artifact_path(kind, model_id):
        raise InputError(
            f"{where} has its files at {entry.path!r}, but they must be at {artifact_path(kind, model_id)}: "
            "do not use this copy."
        )
    _refuse_other_tag(entry.tl_version, f"{where} tl_version")
    if entry.num_bytes < 0:
        raise InputError(f"{where} has {entry.num_bytes} bytes: do not use this copy.")
    for name in entry.sha256:
        refuse_unsafe_name(name, where)
    if PROVENANCE_FILE not in entry.sha256:
        raise InputError(f"{where} has no {PROVENANCE_FILE}: do not use this copy.")
    for path in entry.licence.files:
        refuse_unsafe_path(path, f"{LICENCES_FOLDER}/{model_path(model_id)}", where)


def _refuse_other_tag(tag: str, where: str) -> None:
    if TAG.fullmatch(tag) is None:
        raise InputError(f"{where} is {tag!r}, which is not a release: do not use this copy.")
