import os
import random
import re
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from logos_pl.artifacts.checkpoint_file import check_checkpoint, checkpoint_bytes, read_checkpoint
from logos_pl.errors import InputError

MISSING = object()


def make_checkpoint(**changes: Any) -> dict[str, Any]:
    """What a fit saves, as far as it is looked at; MISSING leaves a part out."""
    weights = OrderedDict({"translators.U": torch.arange(6.0).view(2, 3), "translators.c": torch.ones(2)})
    checkpoint = {
        "epoch": 3,
        "global_step": 8,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": weights,
        "loops": {"fit_loop": {}},
        "callbacks": {"Ledger": {"totals": {"steps": 8}}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(8.0), "exp_avg": torch.zeros(2, 3).T}}}],
        "lr_schedulers": [{"base_lrs": [0.01]}],
        "TrainingText": {"cursors": {0: (0, "a.jsonl", 7)}},
        "lens_identity": {"model_id": "demo", "betas": [0.9, 0.999]},
        "lens_start": None,
        "lens_basis": {"left": torch.eye(2), "right": torch.eye(2)},
        "lens_validation": {"norm": {"kl_to_final_bits": [1.5, 0.5]}},
    }
    return {name: value for name, value in (checkpoint | changes).items() if value is not MISSING}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("best.ckpt").write_bytes(checkpoint_bytes(make_checkpoint()))
    return Path("best.ckpt")


def test_a_checkpoint_comes_back_with_every_number_also_from_a_copy(path: Path, tmp_path: Path) -> None:
    shutil.copy(path, tmp_path / "copy.ckpt")
    check_checkpoint(tmp_path / "copy.ckpt")
    read, wanted = read_checkpoint(tmp_path / "copy.ckpt"), make_checkpoint()
    assert read.keys() == wanted.keys()
    assert torch.equal(read["state_dict"]["translators.U"], wanted["state_dict"]["translators.U"])
    assert read["TrainingText"] == wanted["TrainingText"]


@pytest.mark.parametrize("mmap", [False, True])
def test_torchs_own_loader_passes_over_the_checksum(path: Path, mmap: bool) -> None:
    read = torch.load(path, weights_only=True, mmap=mmap)
    assert torch.equal(read["state_dict"]["translators.U"], torch.arange(6.0).view(2, 3))


def test_every_flipped_bit_is_refused(path: Path) -> None:
    whole, draw = path.read_bytes(), random.Random(316)
    places = [*range(64), *range(len(whole) - 120, len(whole)), *draw.sample(range(len(whole)), 200)]
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        for look in (check_checkpoint, read_checkpoint):
            with pytest.raises(InputError, match=r"^best\.ckpt (was altered|is not a complete checkpoint)") as refusal:
                look(path)
            assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("cut", [1, 64, 80, 100, 500])
def test_a_checkpoint_that_was_cut_off_or_has_no_checksum_is_refused(path: Path, cut: int) -> None:
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(InputError, match=r"^best\.ckpt (was altered|is not a complete checkpoint)"):
        check_checkpoint(path)


def test_one_that_another_program_wrote_is_refused(path: Path) -> None:
    torch.save(make_checkpoint(), path)
    with pytest.raises(InputError, match=r"best\.ckpt is not a complete checkpoint .* no checksum at its end"):
        check_checkpoint(path)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        *[
            ({name: MISSING}, f"has no {name}")
            for name in (
                "state_dict",
                "loops",
                "global_step",
                "epoch",
                "callbacks",
                "optimizer_states",
                "lens_identity",
                "lens_start",
                "lens_basis",
            )
        ],
        ({"global_step": "8"}, "has global_step of another type"),
        ({"global_step": True}, "has global_step of another type"),
        ({"epoch": -1}, "has a negative step or epoch"),
        ({"loops": []}, "has loops of another type"),
        ({"state_dict": {1: torch.ones(1)}}, "something other than named tensors"),
        ({"state_dict": {"U": 1.0}}, "something other than named tensors"),
        ({"hyper_parameters": {"lr": 1.0}}, "has hyperparameters, which would replace the user's"),
        ({"lens_validation": {"norm": {"kl_to_final_bits": ["1.5"]}}}, "readings of another type"),
        ({"lens_validation": {"norm": 1}}, "readings of another type"),
        ({"lens_start": [1]}, "has lens_start of another type"),
        ({"lens_basis": {"left": torch.eye(2)}}, "lens_basis with something other than two tensors"),
        ({"lens_basis": {"left": torch.eye(2), "right": 1.0}}, "lens_basis with something other than two tensors"),
        ({"state_dict": {"U": torch.zeros(1).expand(10**6, 10**6)}}, "declares a tensor of shape"),
        ({"state_dict": {"U": torch.eye(2).to_sparse()}}, "only plain dense tensors"),
        ({"lens_start": {1, 2}}, "only plain dense tensors and values"),
    ],
)
def test_a_checkpoint_with_a_checksum_that_lacks_a_part_is_refused_by_its_name(
    path: Path, changes: dict[str, Any], problem: str
) -> None:
    path.write_bytes(checkpoint_bytes(make_checkpoint(**changes)))
    with pytest.raises(InputError, match=rf"best\.ckpt is not a complete checkpoint .*{re.escape(problem)}"):
        check_checkpoint(path)


def test_what_is_no_file_is_refused(path: Path) -> None:
    os.mkfifo("pipe.ckpt")
    Path("endless.ckpt").symlink_to("/dev/zero")
    for name in ("pipe.ckpt", "endless.ckpt", "."):
        with pytest.raises(InputError, match="is not a regular file"):
            check_checkpoint(Path(name))
    with pytest.raises(InputError, match=r"none\.ckpt cannot be read \(No such file"):
        check_checkpoint(Path("none.ckpt"))
