"""What all commands have in common: their options, and the words in which those of others are refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from logos_pl.bounds import check_number
from logos_pl.cli.command import Command, Option, check_options
from logos_pl.cli.run import KINDS
from logos_pl.errors import InputError
from tests.cli.parsed import command_of


@dataclass(frozen=True, kw_only=True)
class Colours:
    """Colours of a toy.

    Args:
        first: the first one, from 0.
        second: the second one.
    """

    first: int = 1
    second: int = 2

    def __post_init__(self) -> None:
        check_number("--colours.first", self.first, at_least=0)


class Toy(Command):
    """Does nothing, with two colours and a speed."""

    name = "toy"
    groups: ClassVar = {"colours": Colours}
    options: ClassVar = {"speed": Option(int, 3, "how fast")}
    trainer_options = frozenset({"devices", "callbacks"})

    def prepare(self) -> None:
        """Nothing."""

    def make(self) -> tuple[LightningModule, LightningDataModule]:
        """Nothing."""
        raise NotImplementedError

    def trainer_parts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Nothing."""
        return {}

    def run(self, trainer: Trainer, module: LightningModule, data: LightningDataModule) -> None:
        """Nothing."""


class Slow(Toy):
    """A toy with a weight and no colours."""

    name = "slow"
    groups: ClassVar = {}
    options: ClassVar = {"speed": Option(int, 1, "how fast"), "weight": Option(int, 1, "how heavy")}


class Heavy(Slow):
    """The same under another name."""

    name = "heavy"


TOYS: dict[str, type[Command]] = {"toy": Toy, "slow": Slow, "heavy": Heavy}


def test_a_command_accepts_its_settings_its_options_and_its_trainer_options() -> None:
    assert Toy.accepts() == {"colours.first", "colours.second", "speed", "trainer.devices", "trainer.callbacks"}


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["--colours.first=1", "--speed", "4", "--trainer.devices=2"],
        ["--config", "a.yaml", "--print_config", "--help"],
        ["--trainer.callbacks+=Timer", "--trainer.callbacks.init_args.duration=1"],
        ["text", "-1", "-x", "--", "=--weight"],
    ],
)
def test_its_own_options_and_arguments_that_are_not_options_pass(given: list[str]) -> None:
    check_options(Toy, TOYS, given)


@pytest.mark.parametrize(
    ("command", "given", "says"),
    [
        (Slow, "--colours.first=3", "--colours.first is an option of toy, but not of slow: leave it out."),
        (Toy, "--weight", "--weight is an option of slow and heavy, but not of toy: leave it out."),
        (Toy, "--colours.frist=3", "There is no option --colours.frist of toy: did you mean --colours.first?"),
        (Toy, "--spedd", "There is no option --spedd of toy: did you mean --speed?"),
        (Toy, "--zzz", "There is no option --zzz of toy: see `logos-pl toy --help`."),
        (Toy, "--speed_of_light", "There is no option --speed_of_light of toy: see"),
        (Toy, "--" + "z" * 10_000, "characters left out"),
    ],
)
def test_other_options_are_refused_with_the_commands_that_have_them_or_a_suggestion(
    command: type[Command], given: str, says: str
) -> None:
    with pytest.raises(InputError) as caught:
        check_options(command, TOYS, ["--speed=1", given])
    assert says in str(caught.value)
    assert len(str(caught.value)) < 250


def test_an_option_of_several_commands_names_them_all() -> None:
    with pytest.raises(
        InputError,
        match=r"--model\.model_id is an option of fit, prism, jacobian, validate, test, compare, predict and",
    ):
        check_options(Toy, KINDS, ["--model.model_id=demo"])


def test_sections_become_typed_settings_with_their_bounds_checked() -> None:
    assert Toy({"colours": {"first": 4, "second": 5}}).settings == {"colours": Colours(first=4, second=5)}
    with pytest.raises(InputError, match=r"--colours\.first must be at least 0"):
        Toy({"colours": {"first": -1, "second": 5}})


@pytest.mark.parametrize(
    ("arguments", "root"), [([], "lightning_logs"), (["--trainer.default_root_dir=my/logs"], "my/logs")]
)
def test_the_root_of_the_logs_is_the_users_or_the_default(arguments: list[str], root: str) -> None:
    assert command_of("predict", "--model.model_id=demo", *arguments).root == Path(root)


def test_a_command_without_that_option_has_the_default_root() -> None:
    assert command_of("selftest", "--model.model_id=demo").root == Path("lightning_logs")


@pytest.mark.parametrize(
    ("files", "arguments", "typed"),
    [
        ({}, ["--model.model_id=demo"], "logos-pl fit --model.model_id demo"),
        ({"a.yaml": "model: {model_id: demo}"}, [], "logos-pl fit --config a.yaml"),
        (
            {"a.yaml": "schedule: quick"},
            ["--model.model_id=demo"],
            "logos-pl fit --config a.yaml --model.model_id demo",
        ),
        (
            {"a.yaml": "model: {model_id: gpt2}"},
            ["--model.model_id=demo"],
            "logos-pl fit --config a.yaml --model.model_id demo",
        ),
        (
            {"a.yaml": "model: {model_id: demo}", "b.yaml": "schedule: quick"},
            [],
            "logos-pl fit --config a.yaml --config b.yaml",
        ),
        (
            {"a.yaml": "model: {model_id: gpt2}", "b.yaml": "model: {model_id: demo}"},
            [],
            "logos-pl fit --config a.yaml --config b.yaml",
        ),
    ],
)
def test_another_command_is_quoted_with_the_configurations_and_the_model_of_this_one(
    files: dict[str, str], arguments: list[str], typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        Path(name).write_text(text)
    command = command_of("validate", *(f"--config={name}" for name in files), *arguments)
    command.plan = SimpleNamespace(model=SimpleNamespace(model_id="demo", gguf=None, adapter=None))
    assert command.other("fit") == typed
