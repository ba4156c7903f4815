import shlex
from pathlib import Path
from typing import Any

import pytest

from logos_pl.cli.command_line import command_line
from tests.cli.parsed import command_of


def words(command: Any, **options: Any) -> list[str]:
    return shlex.split(command_line(command, **options))


def test_only_options_that_are_not_at_their_default_are_named() -> None:
    assert words(command_of("predict", "--model.model_id=org/m")) == ["logos-pl", "predict", "--model.model_id=org/m"]
    given = ["--model.model_id=org/m", "--model.dtype=bfloat16", "--sweep.attribution=true", "--sweep.copy_margin=0"]
    found = words(command_of("predict", *given))
    assert found == [
        "logos-pl", "predict", "--model.model_id=org/m", "--model.dtype=bfloat16", "--sweep.attribution=true",
        "--sweep.copy_margin=0.0",
    ]  # fmt: skip


def test_the_named_command_line_parses_to_the_same_settings() -> None:
    given = [
        "--model.model_id=org/m",
        "--lens.sources.toy=it's a folder",
        "--lens.imported=org/space",
        "--sweep.open=true",
    ]
    command = command_of("predict", *given)
    again = command_of("predict", *words(command)[2:])
    assert again.settings == command.settings


def test_options_that_are_left_out_and_a_commit() -> None:
    command = command_of("predict", "--model.model_id=org/m", "--data.prompt=x", "--models", "a", "b")
    found = words(command, revision="0123abc", leave_out={"data.prompt", "models"})
    assert found == ["logos-pl", "predict", "--model.model_id=org/m", "--model.revision=0123abc"]


def test_a_folder_outside_the_working_directory_is_named_by_its_last_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    for folder in (here / "models" / "m", tmp_path / "secret" / "lens"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    command = command_of(
        "predict", f"--model.model_id={here / 'models' / 'm'}", f"--lens.source={tmp_path / 'secret' / 'lens'}"
    )
    assert words(command)[2:] == ["--model.model_id=models/m", "--lens.source=PATH/TO/lens"]
    assert "secret" not in command_line(command)
