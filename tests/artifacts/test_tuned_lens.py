import contextlib
import dataclasses
import errno
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from logos_pl.artifacts import load_tuned_lens, tuned_lens
from logos_pl.artifacts.fingerprint import fingerprint
from logos_pl.artifacts.provenance import Provenance
from logos_pl.artifacts.provenance_schema import Preconditioner
from logos_pl.artifacts.tuned_lens import check_destination_of, check_tuned_lens_folder, load_lenses, save_tuned_lens
from logos_pl.errors import InputError, RunError
from logos_pl.lenses.head import Head
from logos_pl.lenses.tuned import TunedLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals
from tests.artifacts.lenses import contents, make_lm, make_provenance, make_translators, reseal


def test_the_loaded_lens_decodes_every_row_to_the_same_bits(artifact: Path, lm: FrozenLM) -> None:
    loaded, _ = load_tuned_lens(artifact, lm)
    rows = range(5)
    h = residuals(lm, torch.arange(12)[None], None, rows)[:, 0]
    saved = TunedLens(make_translators(), Head(lm.anatomy))
    with torch.no_grad():
        assert torch.equal(loaded.logits(h, rows), saved.logits(h, rows))
    untrained = TunedLens(type(saved.translators)(3, 16, 4), Head(lm.anatomy))
    with torch.no_grad():  # the lens under test is not the identity, so the comparison says something
        assert not torch.equal(untrained.logits(h, rows)[1:-1], saved.logits(h, rows)[1:-1])


def test_a_lens_trained_under_the_next_rule_decodes_under_it(tmp_path: Path, lm: FrozenLM) -> None:
    translators = make_translators()
    provenance = dataclasses.replace(make_provenance(lm, translators), decoding_norm="next")
    save_tuned_lens(tmp_path / "tiny", translators, provenance)
    loaded, _ = load_tuned_lens(tmp_path / "tiny", lm)
    assert loaded.head.decoding_norm == "next"


def test_a_lens_shares_the_unembedding_of_a_head_that_is_there_whatever_its_norm(tmp_path: Path, lm: FrozenLM) -> None:
    translators = make_translators()
    save_tuned_lens(tmp_path / "both", translators, make_provenance(lm, translators), make_translators(rank=0))
    head = Head(lm.anatomy, decoding_norm="next", fp32_unembed=False)
    loaded = load_lenses(tmp_path / "both", lm, head)
    for lens in (loaded.tuned, loaded.bias_only):
        assert lens is not None
        assert lens.head.unembedding is head.unembedding
        assert lens.head.decoding_norm == "final"


def test_without_a_model_the_lens_waits_for_a_head(artifact: Path, lm: FrozenLM) -> None:
    lens, provenance = load_tuned_lens(str(artifact))
    with pytest.raises(InputError, match="no head"):
        _ = lens.head
    assert lens.bind(Head(lm.anatomy)).head.num_rows == 5
    assert provenance.model_id == "org/tiny"


def test_the_folder_holds_weights_provenance_and_card_and_the_hashes_of_all_but_itself(artifact: Path) -> None:
    files = contents(artifact)
    assert files.keys() == {"weights.pt", "provenance.json", "provenance.json.sha256", "README.md"}
    own = hashlib.sha256(files["provenance.json"]).hexdigest()
    assert files.pop("provenance.json.sha256").decode() == f"{own}  provenance.json\n"  # as `sha256sum` writes it
    recorded = json.loads(files.pop("provenance.json"))["sha256"]
    assert recorded == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def test_weights_pt_is_a_plain_state_dict_of_contiguous_fp32_tensors(artifact: Path) -> None:
    weights = torch.load(artifact / "weights.pt", weights_only=True)
    assert type(weights) is dict
    assert weights.keys() == {"U", "V", "c", "log_tau"}
    for name, tensor in weights.items():
        assert type(tensor) is torch.Tensor, name
        assert (tensor.dtype, tensor.device.type, tensor.is_contiguous()) == (torch.float32, "cpu", True)


def test_what_is_returned_on_saving_is_what_is_read_on_loading(tmp_path: Path, lm: FrozenLM) -> None:
    translators = make_translators()
    saved = save_tuned_lens(tmp_path / "tiny", translators, make_provenance(lm, translators)).provenance
    assert load_tuned_lens(tmp_path / "tiny", lm)[1] == saved


def test_the_same_lens_is_the_same_bytes(artifact: Path, tmp_path: Path, lm: FrozenLM) -> None:
    translators = make_translators()
    save_tuned_lens(tmp_path / "again", translators, make_provenance(lm, translators))
    assert contents(artifact) == contents(tmp_path / "again")


def test_the_file_is_as_large_as_the_specification_says(tmp_path: Path) -> None:
    # (2 d k + d) · 4 bytes per row, and a temperature; the rest is torch's header.
    translators = make_translators(rows=3, d_model=256, rank=64)
    provenance = make_provenance(None, translators)
    save_tuned_lens(tmp_path / "tiny", translators, provenance)
    numbers = (tmp_path / "tiny" / "weights.pt").stat().st_size - 3 * (2 * 256 * 64 + 256 + 1) * 4
    assert 0 < numbers < 4_000


@pytest.mark.parametrize("name", ["weights.pt", "README.md"])
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_one_changed_byte_is_refused_by_its_file(artifact: Path, name: str, where: float) -> None:
    data = bytearray((artifact / name).read_bytes())
    data[int(where * (len(data) - 1))] ^= 1
    (artifact / name).write_bytes(data)
    with pytest.raises(InputError, match=f"{name} was altered"):
        load_tuned_lens(artifact)


@pytest.mark.parametrize("name", ["weights.pt", "README.md", "provenance.json"])
def test_a_missing_file_is_refused_by_its_name(artifact: Path, name: str) -> None:
    (artifact / name).unlink()
    with pytest.raises(InputError, match=rf"{name} cannot be read \(No such file"):
        load_tuned_lens(artifact)


@pytest.mark.parametrize("data", [b"{", b"\xff\xfe{}", b"NaN"])
def test_a_provenance_that_is_no_json_is_refused(artifact: Path, data: bytes) -> None:
    (artifact / "provenance.json").write_bytes(data)
    (artifact / "provenance.json.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  provenance.json\n")
    with pytest.raises(InputError, match=r"provenance.json is not|provenance.json holds"):
        load_tuned_lens(artifact)


@pytest.mark.parametrize(
    ("capacity", "message"),
    [({"rank_k": 5, "rows": 3, "parameters": 435}, "rank 5"), ({"rank_k": 4, "rows": 2, "parameters": 435}, "2 rows")],
)
def test_weights_of_another_capacity_are_refused(artifact: Path, capacity: dict[str, int], message: str) -> None:
    reseal(artifact, capacity=capacity)
    with pytest.raises(InputError, match=message):
        load_tuned_lens(artifact)


def put_weights(folder: Path, value: Any) -> None:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    (folder / "weights.pt").write_bytes(buffer.getvalue())
    reseal(folder)


def test_weights_that_are_nan_are_refused_even_with_the_right_hash(artifact: Path) -> None:
    weights = torch.load(artifact / "weights.pt", weights_only=True)
    weights["V"][1, 2, 3] = float("nan")
    put_weights(artifact, weights)
    with pytest.raises(InputError, match="V holds 1 numbers that are NaN"):
        load_tuned_lens(artifact)


def test_a_module_in_place_of_a_state_dict_is_refused(artifact: Path) -> None:
    put_weights(artifact, make_translators())
    with pytest.raises(InputError, match="not a state dict"):
        load_tuned_lens(artifact)


def test_a_lens_of_another_width_is_refused(tmp_path: Path, lm: FrozenLM) -> None:
    translators = make_translators(d_model=8)
    save_tuned_lens(tmp_path / "tiny", translators, make_provenance(lm, translators))
    with pytest.raises(InputError, match="of width 8, but the model has 3 inner rows of width 16"):
        load_tuned_lens(tmp_path / "tiny", lm)


def test_a_wrong_rope_under_the_right_name_and_commit_is_refused(artifact: Path) -> None:
    wrong = make_lm(rope_parameters={"rope_type": "default", "rope_theta": 500_000.0})
    with pytest.raises(InputError, match="rotary frequencies"):
        load_tuned_lens(artifact, wrong)


def test_another_head_under_the_right_name_and_commit_is_refused(artifact: Path) -> None:
    other = make_lm()
    with torch.no_grad():
        other.anatomy.lm_head.weight[0, 0] += 1e-3
    with pytest.raises(InputError, match="head of org/tiny"):
        load_tuned_lens(artifact, other)


def test_the_same_model_in_bfloat16_is_accepted_with_a_warning(artifact: Path) -> None:
    with pytest.warns(UserWarning, match="drifts by"):
        lens, _ = load_tuned_lens(artifact, make_lm(torch.bfloat16))
    assert lens.head.num_rows == 5


def test_the_basis_it_was_trained_in_is_on_record_and_none_is_needed_to_read_it(tmp_path: Path, lm: FrozenLM) -> None:
    translators, basis = make_translators(), Preconditioner("whitened", None, 0.1)
    provenance = dataclasses.replace(make_provenance(lm, translators), preconditioner=basis)
    assert save_tuned_lens(tmp_path / "tiny", translators, provenance).provenance.preconditioner == basis
    lens, loaded = load_tuned_lens(tmp_path / "tiny", lm)
    assert loaded.preconditioner == basis
    assert torch.equal(lens.translators.U, translators.U)
    assert "a whitened basis, damping 0.1" in (tmp_path / "tiny" / "README.md").read_text()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_never_written(tmp_path: Path, number: float) -> None:
    translators = make_translators()
    with torch.no_grad():
        translators.c[1, 1] = number
    with pytest.raises(InputError, match="c holds 1 numbers"):
        save_tuned_lens(tmp_path / "tiny", translators, make_provenance())
    assert list(tmp_path.iterdir()) == []


def unwritable() -> dict[str, Provenance]:
    good = make_provenance()
    nan = dataclasses.replace(good.optim, lr=float("nan"))
    local = dataclasses.replace(good.dataset, repo_id="/home/me/text")
    return {
        "optim.lr is nan": dataclasses.replace(good, optim=nan),
        "dataset.repo_id holds a path on this machine": dataclasses.replace(good, dataset=local),
        "of type int": dataclasses.replace(good, seed=1.5),
        "records 436": dataclasses.replace(good, capacity=dataclasses.replace(good.capacity, parameters=436)),
    }


@pytest.mark.parametrize("message", unwritable())
def test_a_provenance_that_could_not_be_read_back_is_never_written(tmp_path: Path, message: str) -> None:
    with pytest.raises(InputError, match=message):
        save_tuned_lens(tmp_path / "tiny", make_translators(), unwritable()[message])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_refuses_leaves_the_earlier_lens_loadable(
    artifact: Path, lm: FrozenLM, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    before = contents(artifact)

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(RunError, match=f"artifact tiny could not be written .*{os.strerror(code)}"):
            save_tuned_lens(artifact, make_translators(rank=2), make_provenance(lm, make_translators(rank=2)))
    assert contents(artifact) == before
    assert os.listdir(artifact.parent) == ["tiny"]
    load_tuned_lens(artifact, lm)


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.mark.filterwarnings("ignore:Writing .* was interrupted")
@pytest.mark.parametrize("renames", [0, 1])
def test_a_lens_loads_whichever_rename_was_cut_off(
    artifact: Path, lm: FrozenLM, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    real = os.rename
    done: list[Path] = []

    def rename(source: Path, target: Path) -> None:
        if len(done) == renames:
            raise Killed
        done.append(source)
        real(source, target)

    new = make_translators(rank=2)
    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(os, "rename", rename)
        save_tuned_lens(artifact, new, make_provenance(lm, new))
    assert load_tuned_lens(artifact, lm)[1].capacity.rank_k == 4
    earlier = save_tuned_lens(artifact, new, make_provenance(lm, new)).earlier
    assert load_tuned_lens(artifact, lm)[1].capacity.rank_k == 2
    assert earlier is not None
    assert load_tuned_lens(earlier, lm)[1].capacity.rank_k == 4
    assert {path.name for path in artifact.parent.iterdir()} == {"tiny", earlier.name}


def test_a_folder_of_somebody_elses_is_refused_before_and_at_saving(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        check_tuned_lens_folder(tmp_path)
    with pytest.raises(InputError, match=r"thesis\.tex"):
        save_tuned_lens(tmp_path, make_translators(), make_provenance())
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_a_lens_may_replace_one_that_was_evaluated(artifact: Path, lm: FrozenLM) -> None:
    (artifact / "gates.json").write_text("{}")
    translators = make_translators()
    save_tuned_lens(artifact, translators, make_provenance(lm, translators))
    assert "gates.json" not in contents(artifact)  # its verdict was the earlier lens's


def test_nothing_written_names_this_machine(artifact: Path) -> None:
    text = (artifact / "provenance.json").read_text() + (artifact / "README.md").read_text()
    for name in (str(Path.home()), os.getcwd(), str(artifact.parent), os.uname().nodename):
        assert name not in text


def test_the_fingerprint_of_the_package_is_the_one_recorded(artifact: Path, lm: FrozenLM) -> None:
    assert load_tuned_lens(artifact)[1].fingerprint == fingerprint(lm, Head(lm.anatomy))


def test_the_same_lens_saved_again_takes_the_place_of_the_first_and_another_one_does_not(
    artifact: Path, lm: FrozenLM
) -> None:
    translators, before = make_translators(), contents(artifact)
    provenance = dataclasses.replace(make_provenance(lm, translators), git_sha="c0de" * 10)
    assert save_tuned_lens(artifact, translators, provenance).earlier is None
    assert os.listdir(artifact.parent) == ["tiny"]

    for other in (
        dataclasses.replace(provenance, seed=7),
        dataclasses.replace(provenance, optim=dataclasses.replace(provenance.optim, steps_done=13)),
    ):
        there = contents(artifact)
        kept = save_tuned_lens(artifact, translators, other).earlier
        assert kept is not None
        assert contents(kept) == there
        assert load_tuned_lens(kept, lm)[1].git_sha == "c0de" * 10
    with torch.no_grad():
        translators.c.add_(1)
    assert save_tuned_lens(artifact, translators, other).earlier is not None
    assert contents(artifact)["weights.pt"] != before["weights.pt"]


@pytest.mark.parametrize("damage", ["provenance.json", "provenance.json.sha256", "weights.pt"])
def test_a_lens_that_cannot_be_read_is_kept_too(artifact: Path, lm: FrozenLM, damage: str) -> None:
    (artifact / damage).write_bytes(b"?")
    before, translators = contents(artifact), make_translators(rank=2)
    check_destination_of(artifact, "org/tiny", "c0ffee")
    kept = save_tuned_lens(artifact, translators, make_provenance(lm, translators)).earlier
    assert kept is not None
    assert contents(kept) == before


@pytest.mark.parametrize("name", ["weights.pt", "README.md", "provenance.json"])
@pytest.mark.parametrize("kind", ["pipe", "endless", "folder", "link to nothing"])
def test_what_is_no_regular_file_is_refused_at_once(artifact: Path, name: str, kind: str) -> None:
    (artifact / name).unlink()
    if kind == "pipe":
        os.mkfifo(artifact / name)
    elif kind == "folder":
        (artifact / name).mkdir()
    else:
        (artifact / name).symlink_to("/dev/zero" if kind == "endless" else "nowhere")
    with pytest.raises(InputError, match=rf"{name} (is not a regular file|cannot be read)"):
        load_tuned_lens(artifact)


@pytest.mark.parametrize(("name", "most"), [("weights.pt", 2**20 + 4 * 435), ("README.md", 2**26)])
def test_a_file_far_larger_than_it_can_be_is_refused_unread(artifact: Path, name: str, most: int) -> None:
    os.truncate(artifact / name, 2**40)  # takes no space on the disk
    with pytest.raises(InputError, match=rf"{name} has 1,099,511,627,776 bytes or more, and at most {most:,} are read"):
        load_tuned_lens(artifact)


def test_a_lens_replaced_while_it_is_read_is_not_called_altered(
    artifact: Path, lm: FrozenLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = make_translators(rank=2)
    real = tuned_lens.read_provenance
    looks: list[Provenance] = []

    def read(folder: Path) -> Provenance:
        provenance = real(folder)
        if not looks:
            looks.append(provenance)  # saving reads it, too
            save_tuned_lens(artifact, new, make_provenance(lm, new))
        return provenance

    monkeypatch.setattr(tuned_lens, "read_provenance", read)
    assert load_tuned_lens(artifact, lm)[1].capacity.rank_k == 2
