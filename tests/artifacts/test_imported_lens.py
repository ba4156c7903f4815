"""Where lenses of others are looked for, and under which names."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import httpx

from logos_pl.artifacts import imported_lens
from logos_pl.artifacts.imported_lens import find_imported_lens, load_imported_lens, sources_by_name
from logos_pl.artifacts.jacobian_format import JacobianFiles
from logos_pl.artifacts.tuned_lens_format import FormatFiles
from logos_pl.errors import InputError
from tests.artifacts.lenses import make_lm
from tests.tiny import make_imported_lens, make_jacobian_lens


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (None, {}),
        ("./theirs", {"imported": "./theirs"}),
        ("j=org/lenses/a.pt@v1", {"j": "org/lenses/a.pt@v1"}),
        (["j=a", "b"], {"j": "a", "imported": "b"}),
        ({"r_lens": "a", "j": "b"}, {"r_lens": "a", "j": "b"}),
        ("folder/a=b", {"imported": "folder/a=b"}),
    ],
)
def test_sources_have_names(given: Any, wanted: dict[str, str]) -> None:
    assert sources_by_name(given) == wanted


def test_a_file_whose_name_looks_like_a_named_source_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b").touch()
    assert sources_by_name("a=b") == {"imported": "a=b"}


def test_two_lenses_of_one_name_are_refused() -> None:
    for given in (["j=a", "j=b"], ["a", "b"]):
        with pytest.raises(InputError, match=r"gives two lenses the name (j|imported): give each a name of its own"):
            sources_by_name(given)


def test_a_folder_is_of_either_format_and_a_file_is_one_of_maps(tmp_path: Path) -> None:
    package = make_imported_lens(tmp_path / "package")
    maps = make_jacobian_lens(tmp_path / "tiny" / "jlens" / "corpus" / "tiny_jacobian_lens.pt")
    (maps.parent / "config.yaml").write_text("hf_model_name: org/tiny")
    assert isinstance(find_imported_lens(str(package), "org/tiny"), FormatFiles)
    for reference in (maps, maps.parent):
        found = find_imported_lens(str(reference), "org/tiny")
        assert isinstance(found, JacobianFiles)
        assert (found.params, found.config) == (maps, maps.parent / "config.yaml")
    shutil.copy(maps, maps.with_name("second.pt"))
    with pytest.raises(InputError, match=r"holds several lenses \(second.pt, tiny_jacobian_lens.pt\): name one"):
        find_imported_lens(str(maps.parent), "org/tiny")
    with pytest.raises(InputError, match=r"Revision v1 cannot be read from .*, which is not on the Hub"):
        find_imported_lens(str(maps), "org/tiny", "v1")
    for nowhere in (str(tmp_path / "gone.pt"), "./a/b/c.pt", "lenses/gone.pt", str(tmp_path / "gone")):
        with pytest.raises(InputError, match="There is no folder"):
            find_imported_lens(nowhere, "org/tiny")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str | None]]:
    """A Hub that has one file in `org/lenses`, at main and at v1; what is asked for is listed."""
    asked: list[tuple[str, str, str | None]] = []
    there = make_jacobian_lens(tmp_path / "cache" / "lens.pt")
    config = there.with_name("config.yaml")
    config.write_text("hf_model_name: org/tiny\nfit: {target_layer: null}\n")
    request = httpx.Request("GET", "https://hub")

    def download(repo_id: str, filename: str, *, revision: str | None) -> str:
        asked.append((repo_id, filename, revision))
        if revision not in (None, "v1"):
            raise RevisionNotFoundError("no revision", response=httpx.Response(404, request=request))
        if filename == "tiny/j/lens.pt" or filename == "bare/lens.pt":
            return str(there)
        if filename == "tiny/j/config.yaml":
            return str(config)
        raise EntryNotFoundError("no file")

    monkeypatch.setattr(imported_lens, "hf_hub_download", download)
    return asked


@pytest.mark.parametrize("reference", ["org/lenses/tiny/j/lens.pt@v1", "org/lenses/tiny/j/lens.pt"])
def test_from_the_hub_a_file_is_fetched_at_a_revision_with_the_configuration_beside_it(
    reference: str, hub: list[tuple[str, str, str | None]]
) -> None:
    revision = None if reference.endswith("@v1") else "v1"
    lens, origin = load_imported_lens(reference, make_lm(), revision=revision)
    assert hub == [("org/lenses", f"tiny/j/{name}", "v1") for name in ("lens.pt", "config.yaml")]
    assert origin.base_model == "org/tiny"
    assert lens.rows == (1, 2, 3, 4)
    with pytest.raises(InputError, match="names another revision than v2: give only one of them"):
        find_imported_lens("org/lenses/tiny/j/lens.pt@v1", "org/tiny", "v2")


def test_a_file_without_a_configuration_beside_it_names_no_model(hub: list[tuple[str, str, str | None]]) -> None:
    assert load_imported_lens("org/lenses/bare/lens.pt", make_lm())[1].base_model is None


@pytest.mark.usefixtures("hub")
def test_what_the_hub_has_not_is_said_in_one_sentence() -> None:
    with pytest.raises(InputError, match=r"There is no file gone/lens\.pt in org/lenses at v1: --lens\.imported takes"):
        find_imported_lens("org/lenses/gone/lens.pt@v1", "org/tiny")
    with pytest.raises(InputError, match="org/lenses has no revision 'v9'"):
        find_imported_lens("org/lenses/tiny/j/lens.pt@v9", "org/tiny")


def test_a_lens_of_either_format_reads_the_model_it_is_loaded_for(tmp_path: Path) -> None:
    lm = make_lm()
    for source in (
        make_imported_lens(tmp_path / "package", model_id="org/tiny"),
        make_jacobian_lens(tmp_path / "lens.pt", J={block: torch.eye(16) * 2 for block in (0, 1, 2)}),
    ):
        lens, origin = load_imported_lens(source, lm)
        assert lens.head.anatomy is lm.anatomy
        assert len(origin.params_sha256) == 64
