import os
from pathlib import Path
from typing import Any

import pytest
import torch

from logos_pl.artifacts.checkpoint_file import checkpoint_bytes
from logos_pl.cli.run_folder import (
    discard_run_folder,
    find_checkpoint,
    hold_run_folder,
    make_log_folder,
    new_run_folder,
)
from logos_pl.errors import InputError, RunError
from logos_pl.io.files import take_lock
from tests.artifacts.test_checkpoint_file import make_checkpoint


def save(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(checkpoint_bytes(make_checkpoint()))


def test_every_run_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    folders = [new_run_folder(tmp_path, "demo", create=True) for _ in range(11)]

    assert [folder.name for folder in folders] == [f"version_{k}" for k in range(11)]
    assert all(folder.is_dir() for folder in folders)


def test_processes_beside_the_first_make_no_folder(tmp_path: Path) -> None:
    assert not new_run_folder(tmp_path, "demo", create=False).exists()


def test_a_folder_claimed_by_another_run_in_between_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logos_pl.cli.run_folder._versions", lambda parent: [])
    first = new_run_folder(tmp_path, "demo", create=True)
    second = new_run_folder(tmp_path, "demo", create=True)

    assert (first.name, second.name) == ("version_0", "version_1")


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(self: Path, **kwargs: object) -> None:
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(RunError, match=r"Read-only file system.*--trainer\.default_root_dir"):
        new_run_folder(tmp_path, "demo", create=True)


@pytest.mark.parametrize("make", [make_log_folder, lambda root, name: new_run_folder(root, name, create=True)])
def test_a_name_that_the_disk_refuses_leaves_no_folder_above_it(make: Any, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"File name too long; fix this, or choose another folder with --trainer\."):
        make(tmp_path / "org" / ("n" * 300), "demo")
    assert list(tmp_path.iterdir()) == []


def test_last_is_that_of_the_newest_run_that_has_one(tmp_path: Path) -> None:
    (tmp_path / "demo" / "version_²").mkdir(parents=True)  # a digit to str.isdigit, and no number
    for version in (2, 10):
        save(tmp_path / "demo" / f"version_{version}" / "last.ckpt")
    (tmp_path / "demo" / "version_11").mkdir()

    assert find_checkpoint(tmp_path, "demo", "last").parent.name == "version_10"


def test_nothing_to_resume_is_said_rather_than_started_anew(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no last\.ckpt .* start without --ckpt_path"):
        find_checkpoint(tmp_path, "demo", "last")


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.ckpt is not a file"):
        find_checkpoint(tmp_path, "demo", str(tmp_path / "nowhere.ckpt"))


def test_half_a_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "demo" / "version_0" / "last.ckpt"
    save(path)
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(InputError, match="not a complete checkpoint"):
        find_checkpoint(tmp_path, "demo", "last")


def test_a_checkpoint_that_holds_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.ckpt"
    torch.save({"path": Path("x"), "print": print}, path)

    with pytest.raises(InputError, match="not a complete checkpoint"):
        find_checkpoint(tmp_path, "demo", str(path))


def test_what_a_killed_run_was_writing_is_cleared_by_the_next_one_and_what_goes_on_is_left(tmp_path: Path) -> None:
    killed, goes_on = (new_run_folder(tmp_path, "demo", create=True) / f".{name}.ckpt.partial" for name in "ab")
    killed.write_bytes(b"half")
    with goes_on.open("wb") as file:
        assert take_lock(file.fileno(), wait=False)
        new_run_folder(tmp_path, "demo", create=False)
        assert killed.exists(), "only the first process clears up"
        new_run_folder(tmp_path, "demo", create=True)
        assert (killed.exists(), goes_on.exists()) == (False, True)


def test_the_folder_of_a_refused_fit_goes_and_one_with_a_checkpoint_stays(tmp_path: Path) -> None:
    first, second = (new_run_folder(tmp_path, "demo", create=True) for _ in range(2))
    (second / "config.yaml").write_text("a: 1")
    save(first / "last.ckpt")
    for folder in (second, first):
        discard_run_folder(folder)
    assert not second.exists()
    assert (first / "last.ckpt").is_file()

    (first / "last.ckpt").unlink()
    discard_run_folder(first)
    assert list(tmp_path.iterdir()) == [], "the model's folder goes with its last run"


def test_a_folder_that_another_fit_writes_to_is_refused_until_that_has_ended(tmp_path: Path) -> None:
    """A fit that seems to hang is soon resumed a second time; the two would take turns at its checkpoints."""
    first = hold_run_folder(tmp_path)
    with pytest.raises(InputError, match=r"^Another fit is writing to .*: wait for it, or start without --ckpt_path"):
        hold_run_folder(tmp_path)
    os.close(first)
    os.close(hold_run_folder(tmp_path))


def test_a_folder_that_has_gone_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^Cannot open .*nowhere: No such file or directory; fix this"):
        hold_run_folder(tmp_path / "nowhere")
