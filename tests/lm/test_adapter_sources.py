"""Where an adapter is, and what it is called."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from logos_pl.errors import InputError
from logos_pl.lm import sources
from logos_pl.lm.adapter_sources import adapter_id, find_adapter, named_revision, recorded_folder, recorded_id
from tests.lm.hub_stand_in import COMMIT, HubStandIn

OTHER = "f" * 40


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubStandIn]:
    stand_in = HubStandIn()
    stand_in.reach(monkeypatch, tmp_path / "cache")
    yield stand_in
    stand_in.close()
    sources.forget()


def write(folder: Path, rank: int = 2) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": rank}))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def test_a_folder_is_called_by_its_name_and_its_commit_is_of_its_files(tmp_path: Path) -> None:
    first, second = write(tmp_path / "first"), write(tmp_path / "second")
    found = find_adapter(str(first))
    assert (found.adapter_id, found.folder) == ("first", first)
    assert find_adapter(str(second)).commit == found.commit
    (second / "README.md").write_text("no part of it")
    assert find_adapter(str(second)).commit == found.commit
    (second / "adapter_model.safetensors").write_bytes(b"others")
    assert find_adapter(str(second)).commit != found.commit


def test_a_repository_is_read_at_its_revision(hub: HubStandIn, tmp_path: Path) -> None:
    hub.commits["org/a"] = {COMMIT: write(tmp_path / "now"), OTHER: write(tmp_path / "then", rank=4)}
    hub.main["org/a"] = COMMIT
    assert adapter_id("org/a@" + OTHER) == "org/a"
    for given, commit, rank in (("org/a", COMMIT, 2), (f"org/a@{OTHER}", OTHER, 4)):
        found = find_adapter(given)
        assert (found.adapter_id, found.commit) == ("org/a", commit)
        assert json.loads((found.folder / "adapter_config.json").read_text())["r"] == rank
        assert (found.folder / "adapter_model.safetensors").exists()


def test_what_is_no_adapter_is_refused(hub: HubStandIn, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not an adapter: it has no adapter_config\.json; give the folder of one"):
        find_adapter(str(tmp_path))
    for given in ("./nowhere", "/nowhere/at/all", "name", "a/b/c", "org/a@", ""):
        with pytest.raises(InputError, match=r"is neither a folder nor `organisation/name` on the Hub: give one"):
            find_adapter(given)
    hub.commits["org/a"], hub.main["org/a"] = {COMMIT: write(tmp_path / "now")}, COMMIT
    (tmp_path / "now" / "adapter_config.json").unlink()
    with pytest.raises(InputError, match=r"org/a has no adapter_config\.json on the Hub"):
        find_adapter("org/a")


def test_an_adapted_model_is_called_by_its_adapter_and_a_gguf_model_by_its_file() -> None:
    assert recorded_id("org/m", None, None) == "org/m"
    assert recorded_id("org/m", "m.Q8_0.gguf", None) == "org/m.Q8_0.gguf"
    assert recorded_id("org/m", None, "org/a@v2") == "org/a"


def test_folders_have_the_revision_of_what_the_model_is_called_by(tmp_path: Path) -> None:
    assert [recorded_folder("org/m@x", None, adapter) for adapter in (None, "org/a@v2", "org/a")] == [
        "m@x",
        "a@v2",
        "a",
    ]
    assert recorded_folder("org/m@x", "m.gguf", None) == "m.gguf@x"
    folder = write(tmp_path / "a@v3")
    assert (named_revision("org/m@x", str(folder)), recorded_folder("org/m@x", None, str(folder))) == (None, "a@v3")
