import errno
import os
from pathlib import Path

import pytest
import torch

from logos_pl.errors import RunError
from logos_pl.fit.checkpoint import AtomicCheckpointIO, RunCheckpoint


def test_a_checkpoint_is_written_whole_and_read_without_unpickling(tmp_path: Path) -> None:
    path = tmp_path / "new" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 3, "weights": torch.arange(4.0)}, path)

    read = torch.load(path, weights_only=True)

    assert read["step"] == 3
    assert torch.equal(read["weights"], torch.arange(4.0))
    assert [entry.name for entry in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_refuses_is_one_sentence_and_the_previous_checkpoint_stands(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)

    def refuse(source: Path, target: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(RunError, match=rf"last\.ckpt could not be written .*{os.strerror(code)}.*--ckpt_path last"):
        AtomicCheckpointIO().save_checkpoint({"step": 2}, path)

    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_first_checkpoint_that_cannot_be_written_is_not_said_to_have_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(RunError, match=r"No space left on device; there is no earlier one: .* start again\.$"):
        AtomicCheckpointIO().save_checkpoint({"step": 1}, tmp_path / "last.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_the_best_score_is_remembered_after_the_folder_has_moved(tmp_path: Path) -> None:
    before = RunCheckpoint(tmp_path / "before", "best", monitor="val/kl")
    here = str(before.path)
    before.best_model_path = before.kth_best_model_path = here
    before.best_model_score = before.kth_value = torch.tensor(0.5)
    before.best_k_models = {here: torch.tensor(0.5)}

    after = RunCheckpoint(tmp_path / "after", "best", monitor="val/kl")
    after.load_state_dict(before.state_dict())

    assert after.best_model_score == 0.5
    assert after.best_model_path == after.kth_best_model_path == str(tmp_path / "after" / "best.ckpt")
    assert after.best_k_models == {str(tmp_path / "after" / "best.ckpt"): torch.tensor(0.5)}


def test_a_checkpoint_from_before_the_first_score_is_resumed_without_one(tmp_path: Path) -> None:
    callback = RunCheckpoint(tmp_path, "best", monitor="val/kl")

    callback.load_state_dict(RunCheckpoint(tmp_path, "best", monitor="val/kl").state_dict())

    assert callback.best_model_path == ""
    assert callback.best_k_models == {}
