from pathlib import Path
from typing import Any

import pytest
import torch

from logos_pl.artifacts.tuned_lens import save_tuned_lens
from logos_pl.errors import InputError
from logos_pl.kinds.checkpoint import CheckpointOrigin
from logos_pl.kinds.request import LensRequest
from logos_pl.kinds.tuned import TUNED, describe, exported_step, find
from logos_pl.lenses.head import Head
from logos_pl.lenses.translator import Translators
from tests.artifacts.lenses import make_lm, make_provenance, make_translators
from tests.kinds.test_checkpoint import write


def request(**changes: Any) -> LensRequest:
    given = {"model_id": "org/tiny", "clean_model_name": "tiny", "fit_command": "logos-pl fit"} | changes
    return LensRequest(**given)


def saved(folder: Path, bias_only: bool = True, rank: int = 4) -> Path:
    lm, translators = make_lm(), make_translators(rank=rank)
    save_tuned_lens(
        folder, translators, make_provenance(lm, translators), make_translators(rank=0) if bias_only else None
    )
    return folder


def test_a_lens_is_found_where_a_fit_exports_to_or_where_the_user_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(Path("lenses/tiny"))
    for given in ({"folder": Path("lenses/tiny")}, {"source": "lenses/tiny", "folder": Path("nowhere")}):
        found = find(request(**given))
        assert (found.there, found.title, found.sentence) == (True, "lenses/tiny", None)
    lm = make_lm()
    loaded = found.load(lm, Head(lm.anatomy))
    assert loaded.lenses.keys() == {"tuned", "bias"}
    assert loaded.held_out_frac == 0.02
    assert loaded.identity == str(loaded.origin.sha256)  # type: ignore[attr-defined]


def test_a_lens_that_is_missing_is_refused_where_it_is_named_or_required_and_else_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = "There is no tuned lens at lenses/tiny: fit one with `logos-pl fit`."
    found = find(request(folder=Path("lenses/tiny")))
    assert (found.there, found.sentence) == (False, wanted)
    with pytest.raises(InputError) as error:
        find(request(folder=Path("lenses/tiny"), use="require"))
    assert str(error.value) == wanted
    with pytest.raises(InputError, match="There is no artifact at nowhere"):
        find(request(source="nowhere"))


def test_a_file_is_a_checkpoint(tmp_path: Path) -> None:
    path = write(tmp_path / "best.ckpt")
    found = find(request(source=str(path)))
    assert found.title is not None
    assert found.title.endswith("best.ckpt")
    lm = make_lm()
    loaded = found.load(lm, Head(lm.anatomy, decoding_norm="next"))
    assert torch.equal(loaded.lenses["tuned"].translators.c, make_translators().c)  # type: ignore[attr-defined]
    assert loaded.lenses["bias"].head is loaded.lenses["tuned"].head
    assert exported_step(loaded.origin) == 8
    assert describe(loaded.origin) is None, "a checkpoint has no provenance"
    path.write_bytes(b"weights")
    with pytest.raises(InputError, match="is not a complete checkpoint"):
        find(request(source=str(path)))


def test_a_checkpoint_of_another_model_commit_or_norm_is_refused_by_name(tmp_path: Path) -> None:
    found = find(request(source=str(write(tmp_path / "best.ckpt"))))
    other, moved, lm = make_lm(model_id="org/other"), make_lm(commit="decaf"), make_lm()
    for model, wanted in (
        (other, "The lens was trained for org/tiny, not for org/other"),
        (moved, "The lens was trained for org/tiny at commit c0ffee, but the model is at decaf"),
    ):
        with pytest.raises(InputError, match=wanted):
            found.load(model, Head(model.anatomy, decoding_norm="next"))
    with pytest.raises(InputError, match="trained with decoding_norm next, but the run uses final: give --model"):
        found.load(lm, Head(lm.anatomy))


def test_an_artifact_of_another_norm_is_refused_by_name(tmp_path: Path) -> None:
    lm = make_lm()
    with pytest.raises(InputError, match="trained with decoding_norm final, but the run uses next: give --model"):
        find(request(folder=saved(tmp_path / "tiny"))).load(lm, Head(lm.anatomy, decoding_norm="next"))


def test_at_rank_0_a_lens_is_its_own_baseline_and_without_one_it_has_none(tmp_path: Path) -> None:
    lm = make_lm()
    head = Head(lm.anatomy)
    at_rank_0 = find(request(folder=saved(tmp_path / "zero", bias_only=False, rank=0))).load(lm, head).lenses
    assert at_rank_0["bias"] is at_rank_0["tuned"]
    without = find(request(folder=saved(tmp_path / "without", bias_only=False))).load(lm, head).lenses
    assert without.keys() == {"tuned"}


def test_the_sweep_records_what_of_the_provenance_bears_on_its_numbers() -> None:
    provenance = make_provenance(None, Translators(3, 16, 4))
    recorded = describe(provenance.__class__(**(vars(provenance) | {"sha256": {"weights.pt": "e" * 64}})))
    assert recorded is not None
    assert (recorded.rank_k, recorded.tokens, recorded.steps_done, recorded.seed) == (4, 245_760, 14, 316)
    assert (recorded.init, recorded.weights_sha256, recorded.all_gates_passed) == ("closed_form", "e" * 64, None)
    assert exported_step(provenance) == 10
    assert describe(None) is None


def test_summaries_go_by_a_lens_only_once_it_has_passed() -> None:
    assert TUNED.accepted is not None
    assert TUNED.accepted(None) is None
    assert describe(CheckpointOrigin("a", "a", "b", "final", 1, 0.1)) is None
