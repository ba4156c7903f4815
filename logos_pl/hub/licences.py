"""Licence of a model as stated in its repository or folder; nothing is inferred."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import HfApi, hf_hub_download

from logos_pl.demo import DEMO
from logos_pl.errors import InputError, LogosError
from logos_pl.hub.index import Licence
from logos_pl.hub.layout import LICENCES_FOLDER, model_path
from logos_pl.io.files import real_path
from logos_pl.io.hub_errors import HubRequest, explaining
from logos_pl.io.parsing import MAX_TEXT_BYTES, read_bytes, read_text
from logos_pl.io.yaml_parsing import parse_yaml
from logos_pl.lm.loaded_as import LoadedAs
from logos_pl.lm.model_names import HUB_COMMIT
from logos_pl.lm.sources import locate, model_commit

FRONT_MATTER = re.compile(r"\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|$)", re.DOTALL)
LICENCE_NAME = re.compile(r"(LICEN[SC]E|COPYING|NOTICE|USE_POLICY)([._-][\w.-]*)?", re.IGNORECASE)


UNKNOWN = Licence(None, None, [])


class FoundLicence(NamedTuple):
    """Result of the search for a licence.

    Attributes:
        licence: Licence for the index.
        texts: Contents of the licence files, by path in the repository of lenses.
        remark: Sentence on what is missing; None if a licence file was copied.
    """

    licence: Licence
    texts: dict[str, bytes]
    remark: str | None


def licence_of(model_id: str, commit: str, place: str | None, loaded_as: LoadedAs | None = None) -> FoundLicence:
    """Find a model's licence files, and the identifier and link in its metadata.

    Args:
        model_id: The model.
        commit: Commit of the model.
        place: Folder of a local model, or ``demo``; None if unknown, or for a model on the Hub.
        loaded_as: How a quantised or adapted model was loaded; an adapted one has the licences of its adapter and of
            its base model.
    """
    merged = None if loaded_as is None else loaded_as.adapter
    if merged is not None:
        adapter = _stated(model_id, merged.adapter_id, merged.commit)
        return _both(adapter, _stated(model_id, merged.base_id, merged.base_commit, "base/"))
    if place == DEMO:
        return _found(
            model_id, *_of_folder(locate(DEMO).config_file.parents[1])
        )  # its card is next to model/ and text/
    if place is not None:
        source = locate(place)
        if model_commit(source) != commit:
            remark = (
                f"{place} does not hold the model at {commit} that the lens was trained on: no licence is recorded."
            )
            return FoundLicence(UNKNOWN, {}, remark)
        return _found(model_id, *_of_folder(source.config_file.parent))
    if "/" not in model_id:
        remark = f"{model_id} is a local model: give its folder in --models, and its LICENSE is copied."
        return FoundLicence(UNKNOWN, {}, remark)
    holder = None if loaded_as is None else loaded_as.repo_id  # of a GGUF file
    return _stated(model_id, holder or model_id, commit)


def _stated(model_id: str, repo_id: str, commit: str, below: str = "") -> FoundLicence:
    """Licence stated in a repository, whose files are copied below the model's name."""
    if HUB_COMMIT.fullmatch(commit) is None:
        return FoundLicence(UNKNOWN, {}, f"{repo_id} is a local folder, so its licence is not recorded.")
    try:
        return _found(repo_id, *_of_repository(repo_id, commit), f"{model_path(model_id)}/{below}")
    except LogosError as error:
        remark = f"The licence of {repo_id} could not be read, so none is recorded: {error}"
        return FoundLicence(UNKNOWN, {}, remark)


def _both(adapter: FoundLicence, base: FoundLicence) -> FoundLicence:
    """Licences of an adapted model: those of its adapter and of its base model."""
    ids, links = (
        [value for value in dict.fromkeys(values) if value is not None]
        for values in ((adapter.licence.id, base.licence.id), (adapter.licence.link, base.licence.link))
    )
    files = [*adapter.licence.files, *base.licence.files]
    licence = Licence(" and ".join(ids) or None, links[0] if len(links) == 1 else None, files)
    remarks = [found.remark for found in (adapter, base) if found.remark is not None]
    return FoundLicence(licence, adapter.texts | base.texts, " ".join(remarks) or None)


def _found(model_id: str, metadata: dict[str, Any], files: dict[str, bytes], at: str | None = None) -> FoundLicence:
    place = f"{LICENCES_FOLDER}/{at or model_path(model_id) + '/'}"
    texts = {f"{place}{name}": data for name, data in sorted(files.items())}
    name, link = metadata.get("license_name") or metadata.get("license"), metadata.get("license_link")
    licence = Licence(name if isinstance(name, str) else None, link if isinstance(link, str) else None, list(texts))
    remark = None
    if not texts:
        stated = "nor does it state a licence" if licence.id is None else f"and states `{licence.id}`"
        remark = f"{model_id} has no licence file, {stated}: nothing else is recorded."
    return FoundLicence(licence, texts, remark)


def _of_folder(folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    own = (real_path(folder), real_path(folder).parent.parent / "blobs")  # target of links in the Hub cache
    named = [
        path
        for path in folder.iterdir()
        # The files are published, so links to other local files must not be followed.
        if LICENCE_NAME.fullmatch(path.name) and path.is_file() and any(map(real_path(path).is_relative_to, own))
    ]
    return _metadata_of(folder / "README.md"), {path.name: read_bytes(path, MAX_TEXT_BYTES) for path in named}


def _metadata_of(card: Path) -> dict[str, Any]:
    """Front matter of a card; empty if it cannot be read."""
    try:
        head = FRONT_MATTER.match(read_text(card)) if card.is_file() else None
        found = None if head is None else parse_yaml(head[1], card.name)
    except InputError:
        return {}
    return found if isinstance(found, dict) else {}


def _of_repository(model_id: str, commit: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    with explaining(HubRequest("model", model_id, commit)):
        info = HfApi().model_info(model_id, revision=commit)
        names = [file.rfilename for file in info.siblings or [] if LICENCE_NAME.fullmatch(file.rfilename)]
        paths = {name: Path(hf_hub_download(model_id, name, revision=commit)) for name in names}
        files = {name: read_bytes(path, MAX_TEXT_BYTES) for name, path in paths.items()}
    return ({} if info.card_data is None else info.card_data.to_dict()), files
