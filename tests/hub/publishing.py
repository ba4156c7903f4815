"""A stand-in of the Hub with the client pointed at it, a model on it, and lenses to publish."""

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from logos_pl.artifacts.tuned_lens import save_tuned_lens
from logos_pl.hub.index import entry_of, read_index
from logos_pl.hub.layout import Kind
from logos_pl.hub.push import plan_release, publish
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.sources import clean_name
from tests.artifacts.lenses import make_lm, make_provenance, make_translators
from tests.hub.stand_in import WRITER, Hub, serving
from tests.tiny import make_model

REPO, TAG = "me/lenses", "v2026.01.31"
TINY, SMALL = "org/tiny", "org/small"
UPLOADS = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
"""huggingface_hub 2.4 uploads by a name that its HTTP library is about to drop."""
LICENCE = b"Do what you like with org/tiny, and say where it is from.\n"


class Made(NamedTuple):
    """What is made once: the model's files by name, and a folder of checkpoints with the lenses of two models."""

    model_files: dict[str, bytes]
    checkpoints: Path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("hub")
    folder = make_model(root / "tiny")
    files = {path.name: path.read_bytes() for path in folder.iterdir()} | {"LICENSE": LICENCE}
    commit = Hub().add(f"models/{TINY}", files).commits[-1].oid
    local = FrozenLM.load(str(folder))
    tiny = FrozenLM(local.model, local.tokenizer, model_id=TINY, model_commit=commit, tokenizer_commit=commit)
    for rank, lm in ((4, tiny), (3, make_lm(model_id=SMALL, commit="ab" * 20))):
        translators = make_translators(rank=rank)
        place = root / "checkpoints" / "tuned_lenses" / clean_name(lm.model_id)
        save_tuned_lens(place, translators, make_provenance(lm, translators), make_translators(rank=0))
    return Made(files, root / "checkpoints")


def reindex(root: Path, model_id: str, kind: Kind = "tuned_lenses") -> None:
    """Put the hashes of an artifact's files as they are into the index, without asking whether they make sense."""
    index = read_index(root)
    before = index.entries(kind)[model_id]
    files = {path.name: path.read_bytes() for path in (root / before.path).iterdir()}
    entry = entry_of(kind, model_id, files, before.tl_version, before.licence)
    (root / "INDEX.json").write_text(index.with_entry(kind, model_id, entry).to_json())


@pytest.fixture
def checkpoints(made: Made, tmp_path: Path) -> Path:
    """A copy of the lenses, which a test may change."""
    shutil.copytree(made.checkpoints, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


@pytest.fixture
def hub(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The Hub, with a model that has a licence file, one that states a licence, and a data set that is gated."""
    hub = Hub()
    hub.add(f"models/{TINY}", made.model_files, card={"license": "mit"})
    small = hub.add(f"models/{SMALL}", {"config.json": b"{}"}, card={"license": "apache-2.0", "license_link": "x.org"})
    small.commits[0].oid = "ab" * 20
    hub.add("datasets/org/gated", {"INDEX.json": b"{}"}, gated=True)
    hub.add("datasets/org/text", {"README.md": b"", "data.txt": b"text"})
    figure = b"\x89PNG\r\n\x1a\n" + bytes(200)  # to draw one takes longer than all the rest
    monkeypatch.setattr("logos_pl.hub.staging.depth_figure", lambda *given: figure)
    with serving(hub) as url:
        point_client_to(url, tmp_path / "cache", monkeypatch)
        yield hub
        close_session()


@pytest.fixture(scope="session")
def release() -> dict[str, Any]:
    """What is on the Hub after the first release, once a test has published it."""
    return {}


@pytest.fixture
def published(hub: Hub, checkpoints: Path, release: dict[str, Any]) -> Hub:
    """The Hub with both lenses on it as release `TAG`; nothing has been asked yet."""
    if not release:
        publish(plan_release(REPO, checkpoints, None, TAG), private=False)
        release |= {"repos": hub.repos, "lfs": hub.lfs}
    vars(hub).update(copy.deepcopy(release))
    hub.requests.clear()
    return hub


def point_client_to(url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment sets for a process of its own, set in this one; retries that do not wait."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # Xet has a protocol and servers of its own
    monkeypatch.setenv("HF_TOKEN", WRITER)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
