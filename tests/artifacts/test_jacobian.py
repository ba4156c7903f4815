from pathlib import Path

import pytest
import torch

from logos_pl.artifacts.jacobian import (
    check_jacobian_destination,
    load_jacobian,
    read_jacobian,
    save_jacobian,
)
from logos_pl.errors import InputError
from logos_pl.lenses.head import Head
from logos_pl.lenses.jacobian import JacobianLens
from tests.artifacts.jacobians import BLOCKS, WIDTH, jacobian_provenance, make_jacobians
from tests.artifacts.lenses import contents, make_lm, reseal


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    save_jacobian(tmp_path / "tiny", make_jacobians(), jacobian_provenance(make_lm()))
    return tmp_path / "tiny"


def test_a_jacobian_lens_comes_back_bit_for_bit_with_its_provenance(artifact: Path) -> None:
    lm = make_lm()
    jacobians, read = read_jacobian(artifact)
    lens, again = load_jacobian(artifact, lm)
    assert torch.equal(jacobians, make_jacobians())
    assert read == again
    assert set(read.sha256) == {"jacobians.pt", "README.md"}
    assert lens.rows == (0, 1, 2, 3, 4)
    h = torch.randn(5, 3, WIDTH)
    wanted = JacobianLens(Head(lm.anatomy), dict(enumerate(make_jacobians())))
    assert torch.equal(lens.logits(h, range(5)), wanted.logits(h, range(5)))


@pytest.mark.parametrize(("options", "message"), [
    ({"model_id": "other/tiny"}, "The Jacobian lens was trained for org/tiny, not for other/tiny, although both are"),
    ({"commit": "decaf"}, "at commit c0ffee, but the model is at decaf"),
])  # fmt: skip
def test_a_lens_of_another_model_is_refused(artifact: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_jacobian(artifact, make_lm(**options))


def test_another_head_under_the_same_name_and_commit_is_refused(artifact: Path) -> None:
    other = make_lm()
    with torch.no_grad():
        other.anatomy.lm_head.weight[0, 0] += 1e-3
    with pytest.raises(InputError, match="head of org/tiny"):
        load_jacobian(artifact, other)


def test_the_unembedding_of_a_head_that_is_there_is_shared_and_the_norm_is_the_final_one(artifact: Path) -> None:
    lm = make_lm()
    head = Head(lm.anatomy, decoding_norm="next", fp32_unembed=False)
    lens = load_jacobian(artifact, lm, head)[0]
    assert lens.head.unembedding is head.unembedding
    assert lens.head.decoding_norm == "final"


def test_an_altered_or_missing_file_and_a_missing_folder_are_refused(artifact: Path) -> None:
    path = artifact / "jacobians.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    with pytest.raises(InputError, match=r"jacobians\.pt was altered"):
        read_jacobian(artifact)
    path.unlink()
    with pytest.raises(InputError, match=r"jacobians\.pt cannot be read"):
        read_jacobian(artifact)
    with pytest.raises(InputError, match="There is no artifact at"):
        read_jacobian(artifact.with_name("none"))


@pytest.mark.parametrize("maps", [
    make_jacobians(BLOCKS - 1), make_jacobians().double(), make_jacobians() * torch.nan, make_jacobians()[:, :3],
    make_jacobians()[0], torch.tensor(1.0), torch.eye(WIDTH).to_sparse(),
])  # fmt: skip
def test_maps_that_do_not_fit_the_provenance_are_refused_though_their_hash_fits(
    artifact: Path, maps: torch.Tensor
) -> None:
    torch.save({"jacobians": maps}, artifact / "jacobians.pt")
    reseal(artifact)
    said = (
        r"jacobians\.pt is not a state dict of tensors only" if maps.is_sparse else r"must be finite float32 of shape"
    )
    with pytest.raises(InputError, match=said):
        read_jacobian(artifact)


def test_a_file_with_another_tensor_is_refused(artifact: Path) -> None:
    torch.save({"J": make_jacobians()}, artifact / "jacobians.pt")
    reseal(artifact)
    with pytest.raises(InputError, match=r"jacobians\.pt holds \['J'\], but must hold jacobians"):
        read_jacobian(artifact)


def test_maps_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be finite float32"):
        save_jacobian(tmp_path / "tiny", make_jacobians() / 0, jacobian_provenance())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_else_or_another_models_lens_is_not_written_to(artifact: Path) -> None:
    check_jacobian_destination(artifact, "org/tiny", "c0ffee")
    with pytest.raises(InputError, match=r"holds the Jacobian lens of org/tiny .* choose another --jacobian\.folder"):
        check_jacobian_destination(artifact, "other/tiny", "c0ffee")
    before = contents(artifact)
    (artifact / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        save_jacobian(artifact, make_jacobians(), jacobian_provenance())
    assert contents(artifact) == before | {"thesis.tex": b"mine"}


def test_another_lens_is_kept_and_the_same_one_is_not(artifact: Path) -> None:
    before = contents(artifact)
    assert save_jacobian(artifact, make_jacobians(), jacobian_provenance(make_lm())).earlier is None
    assert contents(artifact) == before
    kept = save_jacobian(artifact, make_jacobians(seed=3), jacobian_provenance(make_lm())).earlier
    assert kept is not None
    assert contents(kept) == before
