"""Publishes lenses on the Hub: one commit and one tag per release; releases never change."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from logos_pl.artifacts.card import Release
from logos_pl.artifacts.filenames import CARD_FILE, PROVENANCE_FILE
from logos_pl.artifacts.provenance import Provenance
from logos_pl.artifacts.sealed import read_file
from logos_pl.demo import DEMO
from logos_pl.errors import InputError
from logos_pl.hub.cards import dataset_card
from logos_pl.hub.checkpoints import LocalArtifact, find_artifacts
from logos_pl.hub.index import Index
from logos_pl.hub.layout import INDEX_FILE, check_repo_id, check_tag, today
from logos_pl.hub.licences import UNKNOWN, FoundLicence, licence_of
from logos_pl.hub.pull import REPO_TYPE, Snapshot, fetch_file, open_repository
from logos_pl.hub.staging import Staged, stage
from logos_pl.hub.verify import artifact_files
from logos_pl.io.hub_errors import HubRequest, HubUnreachableError, explaining, failed
from logos_pl.io.parsing import MAX_TEXT_BYTES

NOT_OURS = {".gitattributes", CARD_FILE}
"""Files allowed in a repository before its first release."""


class Published(NamedTuple):
    """State of the repository before the release.

    Attributes:
        head: Newest commit; None if the repository does not exist.
        is_private: Whether the repository is private.
        tags: Tags of the repository.
        snapshot: Its lenses; None if it has none.
        is_known: Whether the Hub was reached; if not, the repository is treated as empty.
    """

    head: str | None
    is_private: bool
    tags: frozenset[str]
    snapshot: Snapshot | None
    is_known: bool = True

    @property
    def unfinished(self) -> str | None:
        """Tag of a release that was committed but not tagged, because of a failure; None if there is none."""
        release = None if self.snapshot is None else self.snapshot.index.release
        return None if release in self.tags else release


class Plan(NamedTuple):
    """A release that is built but not uploaded.

    Attributes:
        release: Repository and tag.
        folder: Folder of the built release.
        published: State of the repository.
        staged: The built release.
        additions: New or changed paths in the repository.
        licences: Licence of each model, as far as known.
    """

    release: Release
    folder: Path
    published: Published
    staged: Staged
    additions: list[str]
    licences: dict[str, FoundLicence]

    @property
    def changes(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.staged.changed or self.staged.deleted)


def refuse_without_login() -> None:
    """Check that the Hub accepts the token.

    Raises:
        InputError: There is no token, or not a valid one.
    """
    hub = HubRequest("lenses", "the Hub")
    if get_token() is None:
        raise failed("no token", hub)
    with explaining(hub):
        HfApi().whoami()


def plan_release(
    repo_id: str,
    checkpoints: Path,
    models: Mapping[str, str | None] | None,
    tag: str | None,
    only_build: bool = False,
) -> Plan:
    """Build and verify a release in ``<checkpoints>/hub/<repo_id>``, without writing to the Hub.

    Args:
        repo_id: Id of the repository.
        checkpoints: Checkpoint folder.
        models: Models to publish, each with the folder of a local model if known; None: all.
        tag: Tag of the release; None: today's first free one.
        only_build: Treat the repository as empty if the Hub cannot be reached, for a release that is not uploaded.

    Raises:
        InputError: There are no artifacts, one is damaged, the release exists, or the repository is unsuitable.
        RunError: The Hub fails.
    """
    check_repo_id(repo_id)
    tag = None if tag is None else check_tag(tag)
    artifacts = find_artifacts(checkpoints, None if models is None else list(models))
    try:
        published = _published(repo_id)
    except HubUnreachableError:
        if not only_build:
            raise
        published = Published(None, False, frozenset(), None, is_known=False)
    release = Release(repo_id, _free(tag, published, repo_id))
    places = {DEMO: DEMO, **(models or {})}
    licences = {
        artifact.model_id: _licence(artifact, places.get(artifact.model_id), published.snapshot)
        for artifact in artifacts
    }
    index = None if published.snapshot is None else published.snapshot.index
    folder = checkpoints / "hub" / repo_id
    staged = stage(folder, artifacts, release, index, licences)
    if staged.changed and release.version == published.unfinished:
        raise InputError(
            f"Release {release.version} of {repo_id} was started with other lenses and can only be completed with "
            "those: give another --tag."
        )
    card = dataset_card(repo_id, staged.index, _provenances(folder, staged, published.snapshot))
    (folder / CARD_FILE).write_text(card, encoding="utf-8")
    for artifact in [*staged.changed, *staged.unchanged]:
        entry = staged.index.entries(artifact.kind)[artifact.model_id]
        artifact_files(folder, artifact.kind, artifact.model_id, entry)
    return Plan(release, folder, published, staged, _additions(folder, staged.index, index), licences)


def publish(plan: Plan, private: bool) -> str:
    """Upload a release: complete an unfinished one, commit and tag; then remove the built folder.

    Args:
        plan: The built release.
        private: Make a newly created repository private.

    Returns:
        Commit of the release.

    Raises:
        InputError: No write access, or the repository is public although ``private`` is given.
        RunError: The connection or the Hub fails; without the commit, nothing is published.
    """
    repo_id, published = plan.release.repo_id, plan.published
    if private and published.head is not None and not published.is_private:
        raise InputError(f"{repo_id} exists and is public: change that on its page, or leave out --private.")
    api, head = HfApi(), published.head
    with explaining(HubRequest("release", repo_id)):
        if head is None:
            api.create_repo(repo_id, repo_type=REPO_TYPE, private=private, exist_ok=True)
            head = api.dataset_info(repo_id).sha
        if published.unfinished is not None:
            api.create_tag(repo_id, tag=published.unfinished, revision=head, repo_type=REPO_TYPE)
        if plan.changes:
            head = _commit(api, plan, head)
            api.create_tag(repo_id, tag=plan.release.version, revision=head, repo_type=REPO_TYPE)
    shutil.rmtree(plan.folder)
    for parent in list(plan.folder.parents)[:2]:
        if not any(parent.iterdir()):
            parent.rmdir()
    assert head is not None
    return head


def _commit(api: HfApi, plan: Plan, head: str | None) -> str:
    names = ", ".join(sorted({artifact.model_id for artifact in plan.staged.changed}))
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(path, plan.folder / path) for path in plan.additions
    ]
    operations += [CommitOperationDelete(path) for path in plan.staged.deleted]
    return api.create_commit(
        plan.release.repo_id,
        operations,
        commit_message=f"Release {plan.release.version}: {names}",
        repo_type=REPO_TYPE,
        parent_commit=head,  # fails if someone else has committed in the meantime
    ).oid


def _published(repo_id: str) -> Published:
    api = HfApi()
    with explaining(HubRequest("lenses", repo_id)):
        try:
            info = api.dataset_info(repo_id)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            return Published(None, False, frozenset(), None)
        tags = frozenset(tag.name for tag in api.list_repo_refs(repo_id, repo_type=REPO_TYPE).tags)
    files = {file.rfilename for file in info.siblings or []}
    if INDEX_FILE in files:
        return Published(info.sha, bool(info.private), tags, open_repository(repo_id, info.sha))
    if files - NOT_OURS:
        raise InputError(
            f"{repo_id} has no {INDEX_FILE} and holds {sorted(files - NOT_OURS)[0]}: give a new repository, or one of "
            "lenses."
        )
    return Published(info.sha, bool(info.private), tags, None)


def _free(tag: str | None, published: Published, repo_id: str) -> str:
    if tag is not None:
        if tag in published.tags:
            raise InputError(f"{repo_id} already has the release {tag}, and releases never change: give another --tag.")
        return tag
    taken = published.tags | {published.unfinished}
    first = today()
    return next(name for name in [first, *(f"{first}.{k}" for k in range(1, 1000))] if name not in taken)


def _licence(artifact: LocalArtifact, place: str | None, snapshot: Snapshot | None) -> FoundLicence:
    """Licence of the model, or that of an earlier release if a repository that states it cannot be read."""
    found = licence_of(artifact.model_id, artifact.model_commit, place, artifact.loaded_as)
    before = None if snapshot is None else snapshot.index.entries(artifact.kind).get(artifact.model_id)
    if before is None or before.model_commit != artifact.model_commit:
        return found
    adapted = artifact.loaded_as is not None and artifact.loaded_as.adapter is not None
    # Of an adapted model, only one of two repositories may be readable; both are fixed by the commit.
    lost = adapted and set(found.licence.files) < set(before.licence.files)
    if found.licence != UNKNOWN and not lost:
        return found
    assert snapshot is not None
    paths = before.licence.files
    texts = {path: read_file(fetch_file(snapshot.repo_id, path, snapshot.commit), MAX_TEXT_BYTES) for path in paths}
    return FoundLicence(before.licence, texts, found.remark if before.licence == UNKNOWN else None)


def _provenances(folder: Path, staged: Staged, snapshot: Snapshot | None) -> dict[str, Provenance]:
    """Provenances of all tuned lenses in the repository; those of lenses that are not local are downloaded."""
    here = {artifact.model_id for artifact in [*staged.changed, *staged.unchanged] if artifact.kind == "tuned_lenses"}
    read = {}
    for model_id, entry in staged.index.tuned_lenses.items():
        name = f"{entry.path}/{PROVENANCE_FILE}"
        path = folder / name
        if model_id not in here:
            assert snapshot is not None, "artifacts that are not local are published"
            path = fetch_file(snapshot.repo_id, name, snapshot.commit)
        data = read_file(path, MAX_TEXT_BYTES)
        if hashlib.sha256(data).hexdigest() != entry.sha256[PROVENANCE_FILE]:
            raise InputError(f"{name} does not match the {INDEX_FILE} of the repository: tell its owner.")
        read[model_id] = Provenance.from_json(data.decode(errors="replace"))
    return read


def _additions(folder: Path, index: Index, before: Index | None) -> list[str]:
    """New or changed paths of the built folder; the two files at the root always count."""
    known: dict[str, str] = {}
    if before is not None:
        known = dict(before.licences)
        for _, _, entry in before:
            known |= {f"{entry.path}/{name}": sha256 for name, sha256 in entry.sha256.items()}
    built = dict(index.licences)
    for _, _, entry in index:
        built |= {f"{entry.path}/{name}": sha256 for name, sha256 in entry.sha256.items()}
    return [INDEX_FILE, CARD_FILE, *sorted(path for path, sha256 in built.items() if known.get(path) != sha256)]
