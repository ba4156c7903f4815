import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer

from logos_pl.errors import InputError, RunError
from logos_pl.fit.run_config import RunConfig


def save(folder: Path, text: str) -> None:
    """Write a configuration as a fit does when it starts."""
    parser: Any = SimpleNamespace(dump=lambda config, skip_none: text)
    RunConfig(parser, Namespace(), folder).save_config(Trainer.__new__(Trainer), LightningModule(), "fit")


def test_a_run_that_goes_on_with_other_settings_leaves_the_earlier_ones_as_they_were(tmp_path: Path) -> None:
    run = tmp_path / "version_0"
    for text in ("first", "first", "second", "second", "first"):
        save(run, text)
    assert {path.name: path.read_text() for path in run.iterdir()} == {
        "config.yaml": "first",
        "config-2.yaml": "second",
        "config-3.yaml": "first",
    }


def test_a_disk_that_refuses_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(RunError, match=r"configuration could not be written .*No space left.*default_root_dir"):
        save(tmp_path / "version_0", "first")


def test_a_pipe_in_the_place_of_the_configuration_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(InputError, match=r"config\.yaml is not a regular file"):
        save(tmp_path, "first")
