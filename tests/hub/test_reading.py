"""Lenses of every kind on their way through a repository: built, verified, and read again."""

import json
from pathlib import Path

import pytest
import torch

from logos_pl.artifacts.card import Release
from logos_pl.artifacts.jacobian import read_jacobian, save_jacobian
from logos_pl.artifacts.prism import save_prism
from logos_pl.artifacts.tuned_lens import save_tuned_lens
from logos_pl.errors import InputError
from logos_pl.hub.cards import dataset_card
from logos_pl.hub.checkpoints import find_artifacts
from logos_pl.hub.index import Index, Licence
from logos_pl.hub.indexing import index_folder
from logos_pl.hub.layout import KINDS, Kind
from logos_pl.hub.licences import FoundLicence
from logos_pl.hub.reading import load_bound, read_alone
from logos_pl.hub.staging import stage
from logos_pl.hub.verify import artifact_files, refuse_foreign_files
from tests.artifacts.jacobians import jacobian_provenance, make_jacobians
from tests.artifacts.lenses import contents, make_lm, make_provenance, make_translators, reseal
from tests.artifacts.prisms import make_map, prism_provenance

RELEASE = Release("me/lenses", "v2026.01.31")
UNKNOWN = FoundLicence(Licence(None, None, []), {}, None)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    lm, root = make_lm(), tmp_path / "checkpoints"
    translators = make_translators()
    save_tuned_lens(root / "tuned_lenses/tiny", translators, make_provenance(lm, translators), make_translators(rank=0))
    save_prism(root / "prisms/tiny", make_map(), prism_provenance(lm))
    save_jacobian(root / "jacobians/tiny", make_jacobians(), jacobian_provenance(lm))
    return root


def test_a_lens_of_every_kind_is_read_alone_and_bound(checkpoints: Path) -> None:
    lm = make_lm()
    assert {artifact.kind for artifact in find_artifacts(checkpoints)} == set(KINDS)
    h = torch.randn(1, 3, 16)
    read = []
    for kind in KINDS:
        folder = checkpoints / kind / "tiny"
        assert read_alone(kind, folder).model_id == "org/tiny"
        read.append(load_bound(kind, folder, lm).logits(h, [2]))
    assert not any(torch.equal(read[i], read[j]) for i in range(3) for j in range(i))


def test_a_jacobian_lens_is_published_as_it_is_with_its_notice(checkpoints: Path, tmp_path: Path) -> None:
    before = contents(checkpoints / "jacobians" / "tiny")
    (checkpoints / "jacobians" / "tiny.unfinished").write_bytes(b"sums of a fit that goes on")
    root = tmp_path / "built"
    staged = stage(root, find_artifacts(checkpoints), RELEASE, None, {"org/tiny": UNKNOWN})
    entry = staged.index.jacobians["org/tiny"]
    assert (entry.path, entry.gates_passed) == ("jacobians/org/tiny", None)
    files = artifact_files(root, "jacobians", "org/tiny", entry)
    assert files.keys() == before.keys() | {"NOTICE"}
    assert files["jacobians.pt"] == before["jacobians.pt"]
    assert files["NOTICE"].startswith(b"Jacobian lens for org/tiny, version v2026.01.31")
    assert torch.equal(read_jacobian(root / entry.path)[0], make_jacobians())
    refuse_foreign_files(root, staged.index)
    assert Index.from_json(staged.index.to_json()) == staged.index
    (root / "INDEX.json").unlink()
    again = index_folder(root, RELEASE.version)
    assert again.jacobians["org/tiny"].sha256 == entry.sha256
    alone = Index(RELEASE.version).with_entry("jacobians", "org/tiny", entry)
    card = dataset_card("me/lenses", alone, {})
    assert "| [`org/tiny`](jacobians/org/tiny) | v2026.01.31 |" in card
    assert 'lens, provenance = load_jacobian("checkpoints/jacobians/tiny", lm)' in card


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_that_is_not_finite_is_found_though_every_hash_fits(
    kind: Kind, checkpoints: Path, tmp_path: Path
) -> None:
    folder = checkpoints / kind / "tiny"
    name = next(path.name for path in sorted(folder.glob("*.pt")) if path.name != "bias_only.pt")
    parts = torch.load(folder / name, weights_only=True)
    torch.save({key: part * torch.nan for key, part in parts.items()}, folder / name)
    reseal(folder)
    assert json.loads((folder / "provenance.json").read_text())["sha256"][name]
    with pytest.raises(InputError, match=r"finite|NaN"):
        read_alone(kind, folder)


def test_an_index_from_before_there_were_jacobian_lenses_is_read() -> None:
    plain = json.loads(Index("v2026.01.31").to_json())
    del plain["jacobians"]
    assert Index.from_json(json.dumps(plain)) == Index("v2026.01.31")
