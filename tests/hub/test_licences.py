import dataclasses
import os
from pathlib import Path

from logos_pl.hub.licences import licence_of
from logos_pl.lm.loaded_as import LoadedAs, MergedAdapter
from logos_pl.lm.sources import locate, model_commit
from tests.hub.publishing import LICENCE, SMALL, TINY
from tests.hub.stand_in import Hub


def commit(hub: Hub, model_id: str) -> str:
    return hub.repos[f"models/{model_id}"].commits[-1].oid


def test_the_models_own_licence_files_are_copied_and_no_others(hub: Hub) -> None:
    repo = hub.repos[f"models/{TINY}"]
    repo.commit(
        repo.commits[-1].files | {"USE_POLICY.md": b"Be good.", "docs/LICENSE": b"of the docs", "LICENSEE": b""}
    )
    found = licence_of(TINY, commit(hub, TINY), None)
    assert found.texts == {f"LICENSES/{TINY}/LICENSE": LICENCE, f"LICENSES/{TINY}/USE_POLICY.md": b"Be good."}
    assert found.licence.files == list(found.texts)
    assert (found.licence.id, found.remark) == ("mit", None)


def test_a_licence_with_a_name_of_its_own_is_called_by_it(hub: Hub) -> None:
    hub.repos[f"models/{SMALL}"].card = {
        "license": "other",
        "license_name": "small-licence",
        "license_link": "LICENSE.md",
    }
    found = licence_of(SMALL, commit(hub, SMALL), None)
    assert (found.licence.id, found.licence.link, found.texts) == ("small-licence", "LICENSE.md", {})
    assert found.remark == "org/small has no licence file, and states `small-licence`: nothing else is recorded."


def test_where_nothing_is_stated_nothing_is_recorded_and_it_is_said(hub: Hub) -> None:
    hub.repos[f"models/{SMALL}"].card = {}
    found = licence_of(SMALL, commit(hub, SMALL), None)
    assert (found.licence.id, found.licence.link, found.licence.files) == (None, None, [])
    assert found.remark == "org/small has no licence file, nor does it state a licence: nothing else is recorded."


def test_a_model_that_cannot_be_reached_leaves_its_licence_unknown(hub: Hub) -> None:
    found = licence_of("org/none", "ab" * 20, None)
    assert (found.licence.id, found.texts) == (None, {})
    assert found.remark is not None
    assert found.remark.startswith("The licence of org/none could not be read, so none is recorded: there is no model")


def test_the_licence_of_a_local_model_is_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "LICENSE.txt").write_text("Mine.")
    (tmp_path / "README.md").write_text("---\nlicense: cc0-1.0\n---\n# Mine\n")
    commit = model_commit(locate(str(tmp_path)))
    found = licence_of(tmp_path.name, commit, str(tmp_path))
    assert found.texts == {f"LICENSES/_local/{tmp_path.name}/LICENSE.txt": b"Mine."}
    assert (found.licence.id, found.remark) == ("cc0-1.0", None)

    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n")
    assert licence_of(tmp_path.name, commit, str(tmp_path)).licence.id is None
    another = licence_of(tmp_path.name, "sha256:00", str(tmp_path))
    assert (another.texts, another.licence.files) == ({}, [])
    assert "does not hold the model at sha256:00" in (another.remark or "")
    assert "give its folder in --models" in (licence_of("mine", "sha256:00", None).remark or "")


def test_of_a_model_folder_only_its_own_regular_files_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (tmp_path / "secret").write_text("mine")
    (folder / "LICENSE").symlink_to(tmp_path / "secret")
    (folder / "NOTICE").symlink_to("/dev/zero")
    os.mkfifo(folder / "COPYING")
    os.mkfifo(folder / "README.md")
    found = licence_of("model", model_commit(locate(str(folder))), str(folder))
    assert (found.texts, found.licence.id) == ({}, None)
    (folder / "README.md").unlink()
    for card in ("[" * 100_000, "license: mit\nlicense: other", "a: &a [*a]", "- mit"):
        (folder / "README.md").write_text(f"---\n{card}\n---\n")
        assert licence_of("model", model_commit(locate(str(folder))), str(folder)).licence.id is None


def test_the_bundled_model_brings_the_projects_licence() -> None:
    found = licence_of("demo", "sha256:00", "demo")
    project = Path(__file__).parents[2] / "LICENSE"
    assert found.texts == {"LICENSES/_local/demo/LICENSE": project.read_bytes()}
    assert (found.licence.id, found.remark) == ("mit", None)


def test_an_adapted_model_has_the_licences_of_its_adapter_and_of_its_base_model(hub: Hub) -> None:
    adapter = hub.add("models/org/lora", {"LICENSE": b"of the adapter"})
    adapter.card = {"license": "apache-2.0"}
    made_of = MergedAdapter("org/lora", adapter.commits[-1].oid, "00", "LORA", TINY, commit(hub, TINY))
    found = licence_of("org/lora", "sha256:00", None, LoadedAs(adapter=made_of))
    assert found.texts == {"LICENSES/org/lora/LICENSE": b"of the adapter", "LICENSES/org/lora/base/LICENSE": LICENCE}
    assert (found.licence.id, found.licence.files, found.remark) == ("apache-2.0 and mit", list(found.texts), None)

    local = LoadedAs(adapter=dataclasses.replace(made_of, adapter_id="mine", commit="sha256:00"))
    found = licence_of("mine", "sha256:00", None, local)
    assert (found.licence.id, list(found.texts)) == ("mit", ["LICENSES/_local/mine/base/LICENSE"])
    assert found.remark == "mine is a local folder, so its licence is not recorded."


def test_a_gguf_file_has_the_licence_of_its_repository(hub: Hub) -> None:
    found = licence_of("org/tiny.Q8_0.gguf", commit(hub, TINY), None, LoadedAs(repo_id=TINY, file="tiny.Q8_0.gguf"))
    assert found.texts == {"LICENSES/org/tiny.Q8_0.gguf/LICENSE": LICENCE}
    assert (found.licence.id, found.remark) == ("mit", None)
