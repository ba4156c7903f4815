from pathlib import Path

import pytest
import torch

from logos_pl.artifacts.prism import (
    check_prism_destination,
    load_prism,
    save_prism,
)
from logos_pl.errors import InputError
from logos_pl.lenses.head import Head
from logos_pl.lenses.prism import PrismLens
from tests.artifacts.lenses import contents, make_lm, reseal
from tests.artifacts.prisms import WIDTH, make_map, prism_provenance


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    lm = make_lm()
    save_prism(tmp_path / "tiny", make_map(), prism_provenance(lm))
    return tmp_path / "tiny"


@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_a_prism_comes_back_bit_for_bit_with_its_provenance(tmp_path: Path, kind: str) -> None:
    lm = make_lm()
    written = save_prism(tmp_path / "tiny", make_map(kind), prism_provenance(lm, kind)).provenance
    lens, read = load_prism(tmp_path / "tiny", lm)

    assert read == written
    assert set(read.sha256) == {"whiten.pt", "rotation.pt", "README.md"}
    for name, part in make_map(kind)._asdict().items():
        assert torch.equal(getattr(lens.prism, name), part), name
    h = torch.randn(5, 3, WIDTH)
    assert torch.equal(lens.logits(h, range(5)), PrismLens(make_map(kind), Head(lm.anatomy)).logits(h, range(5)))


@pytest.mark.parametrize(("options", "message"), [
    ({"model_id": "other/tiny"}, "The prism was trained for org/tiny, not for other/tiny, although both are called"),
    ({"commit": "decaf"}, "at commit c0ffee, but the model is at decaf"),
])  # fmt: skip
def test_a_prism_of_another_model_is_refused(artifact: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_prism(artifact, make_lm(**options))


def test_another_head_under_the_same_name_and_commit_is_refused(artifact: Path) -> None:
    other = make_lm()
    with torch.no_grad():
        other.anatomy.lm_head.weight[0, 0] += 1e-3
    with pytest.raises(InputError, match="head of org/tiny"):
        load_prism(artifact, other)


def test_another_decoding_norm_is_refused_by_name(artifact: Path) -> None:
    load_prism(artifact, make_lm(), "final")
    with pytest.raises(InputError, match="fitted with decoding_norm final, but the run uses next"):
        load_prism(artifact, make_lm(), "next")


def test_a_prism_shares_the_unembedding_of_a_head_that_is_there(artifact: Path) -> None:
    lm = make_lm()
    head = Head(lm.anatomy, fp32_unembed=False)
    assert load_prism(artifact, lm, "final", head)[0].head.unembedding is head.unembedding


def test_a_prism_decodes_with_the_norm_it_was_fitted_with(tmp_path: Path) -> None:
    lm = make_lm()
    save_prism(tmp_path / "tiny", make_map(), prism_provenance(lm, norm="next"))
    assert load_prism(tmp_path / "tiny", lm)[0].head.decoding_norm == "next"


@pytest.mark.parametrize("file", ["whiten.pt", "rotation.pt"])
def test_an_altered_file_is_refused(artifact: Path, file: str) -> None:
    content = bytearray((artifact / file).read_bytes())
    content[len(content) // 2] ^= 1
    (artifact / file).write_bytes(content)
    with pytest.raises(InputError, match=f"{file} was altered"):
        load_prism(artifact)


def test_a_missing_file_and_a_missing_folder_are_refused(artifact: Path) -> None:
    (artifact / "rotation.pt").unlink()
    with pytest.raises(InputError, match=r"rotation\.pt cannot be read"):
        load_prism(artifact)
    with pytest.raises(InputError, match="There is no artifact at"):
        load_prism(artifact.with_name("none"))


def test_a_map_that_is_not_what_the_provenance_says_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"whiten is torch\.float32 of shape \(16,\), but must be .* \(16, 16\)"):
        save_prism(tmp_path / "tiny", make_map("diagonal"), prism_provenance())
    broken = make_map()._replace(rotation=torch.full((WIDTH, WIDTH), torch.nan))
    with pytest.raises(InputError, match=r"rotation is .* finite"):
        save_prism(tmp_path / "tiny", broken, prism_provenance())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_else_or_another_models_prism_is_not_written_to(artifact: Path) -> None:
    check_prism_destination(artifact, "org/tiny", "c0ffee")
    with pytest.raises(InputError, match=r"holds the prism of org/tiny .* choose another --prism\.folder"):
        check_prism_destination(artifact, "other/tiny", "c0ffee")
    before = contents(artifact)
    (artifact / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        save_prism(artifact, make_map(), prism_provenance())
    assert contents(artifact) == before | {"thesis.tex": b"mine"}


def test_another_prism_is_kept_and_the_same_one_is_not(artifact: Path) -> None:
    before = contents(artifact)
    assert save_prism(artifact, make_map(), prism_provenance(make_lm())).earlier is None
    assert contents(artifact) == before
    kept = save_prism(artifact, make_map("diagonal"), prism_provenance(make_lm(), "diagonal")).earlier
    assert kept is not None
    assert contents(kept) == before
    assert load_prism(kept)[1].whiten == "full"


@pytest.mark.parametrize("tensor", [torch.eye(WIDTH).to_sparse(), torch.zeros(1).expand(WIDTH * 10**6, WIDTH * 10**6)])
def test_a_part_that_is_no_plain_tensor_is_refused_though_its_hash_fits(artifact: Path, tensor: torch.Tensor) -> None:
    parts = torch.load(artifact / "rotation.pt", weights_only=True)
    torch.save(parts | {"rotation": tensor}, artifact / "rotation.pt")
    reseal(artifact)
    with pytest.raises(InputError, match=r"rotation\.pt is not a state dict of tensors only"):
        load_prism(artifact)
