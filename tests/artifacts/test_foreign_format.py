"""Lenses in the formats of others, read again by our importers and, where they are installed, by their packages."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from logos_pl.artifacts.foreign_format import transformer_lens_file, tuned_lens_files
from logos_pl.artifacts.imported_lens import load_imported_lens
from logos_pl.artifacts.jacobian_format import JacobianOrigin
from logos_pl.artifacts.tuned_lens_format import ImportedOrigin
from logos_pl.errors import InputError
from logos_pl.lenses.head import Head
from logos_pl.lenses.jacobian import JacobianLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals as gathered
from tests.artifacts.jacobians import jacobian_provenance, make_jacobians
from tests.artifacts.lenses import make_lm
from tests.lm.families import tiny_model

COMMIT = "ab" * 20


def residuals(lm: FrozenLM) -> Tensor:
    return 2 * torch.randn(lm.num_blocks + 1, 7, lm.d_model, generator=torch.Generator().manual_seed(0))


def written(folder: Path, lm: FrozenLM, to: str) -> Path:
    folder.mkdir()
    if to == "transformer_lens":
        (folder / "lens.pt").write_bytes(transformer_lens_file(make_jacobians(), jacobian_provenance(lm)))
        return folder / "lens.pt"
    for name, data in tuned_lens_files(make_jacobians(), jacobian_provenance(lm), lm).items():
        (folder / name).write_bytes(data)
    return folder


def test_the_file_of_maps_is_read_by_our_importer_with_the_same_readings_bit_for_bit(tmp_path: Path) -> None:
    lm = make_lm(commit=COMMIT)
    lens, origin = load_imported_lens(written(tmp_path / "lens", lm, "transformer_lens"), lm)
    own = JacobianLens(Head(lm.anatomy), dict(enumerate(make_jacobians())))
    assert isinstance(origin, JacobianOrigin)
    assert (origin.base_model, origin.base_model_revision, origin.num_prompts) == ("org/tiny", COMMIT, 1_024)
    assert (origin.rows, origin.dtype, origin.estimator) == ([1, 2, 3], "float32", "jacobian_lens")
    h = residuals(lm)[1:]
    assert torch.equal(lens.logits(h, range(1, 5)), own.logits(h, range(1, 5)))


def test_the_translators_are_read_by_our_importer_with_the_same_readings_at_every_row(tmp_path: Path) -> None:
    lm = make_lm(commit=COMMIT)
    lens, origin = load_imported_lens(written(tmp_path / "lens", lm, "tuned_lens"), lm)
    own = JacobianLens(Head(lm.anatomy), dict(enumerate(make_jacobians())))
    assert isinstance(origin, ImportedOrigin)
    assert (origin.base_model, origin.base_model_revision, origin.dtype) == ("org/tiny", COMMIT, "float32")
    assert origin.unembed_hash is not None
    h = residuals(lm)
    torch.testing.assert_close(lens.log_probs(h, range(5)), own.log_probs(h, range(5)), rtol=0, atol=1e-5)


def test_a_model_that_is_not_on_the_hub_is_not_recorded_in_the_file_of_maps(tmp_path: Path) -> None:
    lm = make_lm(commit="sha256:" + "0" * 64)
    path = written(tmp_path / "lens", lm, "transformer_lens")
    content = torch.load(path, weights_only=True)
    assert set(content) == {"J", "source_layers", "d_model", "n_prompts", "metadata"}
    assert not {"model_name", "model_revision"} & content["metadata"].keys()
    assert (content["source_layers"], content["d_model"], content["metadata"]["target_layer"]) == ([0, 1, 2], 16, 3)
    assert torch.equal(content["J"][2], make_jacobians()[3])
    assert load_imported_lens(path, lm)[1].base_model is None
    config = json.loads((written(tmp_path / "other", lm, "tuned_lens") / "config.json").read_text())
    assert config["base_model_revision"] is None


@pytest.mark.parametrize(("family", "what"), [
    ("gemma2", "a soft-cap"), ("cohere", "a scale of the logits"), ("opt_project", "a projection"),
])  # fmt: skip
def test_a_head_that_the_tuned_lens_package_does_not_have_is_refused(family: str, what: str) -> None:
    lm = FrozenLM.from_model(tiny_model(family), model_id="org/tiny")
    jacobians = torch.eye(lm.d_model).repeat(lm.num_blocks, 1, 1)
    with pytest.raises(InputError, match=f"but the head of org/tiny has {what}: give --to transformer_lens"):
        tuned_lens_files(jacobians, jacobian_provenance(), lm)


@pytest.mark.filterwarnings("ignore")  # of another package, none of which is ours to act on
def test_transformer_lens_reads_the_file_with_the_same_readings(tiny: dict[str, Path], tmp_path: Path) -> None:
    analysis = pytest.importorskip("transformer_lens.tools.analysis", reason="TransformerLens is not installed")
    bridge = pytest.importorskip("transformer_lens.model_bridge", reason="TransformerLens is not installed")
    lm = FrozenLM.load(str(tiny["model"]), dtype="float32")
    model = bridge.TransformerBridge.boot_transformers(str(tiny["model"]), device="cpu")
    path = written(tmp_path / "lens", lm, "transformer_lens")
    ids = torch.randint(3, 23, (1, 12), generator=torch.Generator().manual_seed(0))
    read = analysis.JacobianLens.from_pretrained(str(path), model=model).readout(
        model, ids, return_full_logits=True, top_k=3
    )
    own = JacobianLens(Head(lm.anatomy), dict(enumerate(make_jacobians())))
    wanted = own.log_probs(gathered(lm, ids, None, range(5))[:, 0], range(5))
    assert sorted(read.lens_logits) == [0, 1, 2, 3]
    for block, logits in read.lens_logits.items():
        torch.testing.assert_close(logits.log_softmax(-1), wanted[block + 1], rtol=0, atol=3e-5)


def test_the_tuned_lens_package_reads_the_folder_with_the_same_readings(tmp_path: Path) -> None:
    lenses = pytest.importorskip("tuned_lens.nn.lenses", reason="tuned-lens is not installed")
    unembed = pytest.importorskip("tuned_lens.nn.unembed", reason="tuned-lens is not installed")
    lm = make_lm(commit=COMMIT)
    folder = written(tmp_path / "lens", lm, "tuned_lens")
    read = lenses.TunedLens.from_unembed_and_pretrained(unembed.Unembed(lm.model), str(folder))
    own = JacobianLens(Head(lm.anatomy), dict(enumerate(make_jacobians())))
    h = residuals(lm)
    with torch.no_grad():
        theirs = torch.stack([read(h[row], row).log_softmax(-1) for row in range(4)])
    torch.testing.assert_close(theirs, own.log_probs(h[:4], range(4)), rtol=0, atol=1e-5)
