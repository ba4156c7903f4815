"""A command that only this file knows: its class, and a line in the list of commands, are all it takes."""

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from logos_pl.bounds import check_number
from logos_pl.cli import entry
from logos_pl.cli.command import MACHINE, Command, Option
from logos_pl.cli.commands import COMMANDS, usage
from logos_pl.cli.plan import plan_prompts
from logos_pl.cli.run import KINDS
from logos_pl.data.prompt_data import PromptData
from logos_pl.data.prompts import PromptBatch
from logos_pl.io.terminal import say
from logos_pl.modules.base import LensModule
from logos_pl.settings.model import ModelSettings
from logos_pl.settings.text import PromptSettings
from tests.tiny import make_model

SENTENCE = "Count the tokens of prompts."


# What such a file holds: settings, a module on `LensModule`, the command.


@dataclass(frozen=True, kw_only=True)
class CountSettings:
    """Counting.

    Args:
        least: count prompts of this many tokens or more.
    """

    least: int = 0

    def __post_init__(self) -> None:
        check_number("--count.least", self.least, at_least=0)


class CountModule(LensModule):
    """Counts the tokens of the prompts that the model reads."""

    tokens = 0
    least = 0

    def predict_step(self, batch: PromptBatch, batch_idx: int) -> int:
        """Count a batch."""
        assert self.frozen.num_blocks == 4, "the model is there"
        here = sum(len(tokenized.ids) for tokenized in batch.prompts if len(tokenized.ids) >= self.least)
        self.tokens += here
        return here


class Count(Command):
    """Counts tokens."""

    name = "count"
    groups: ClassVar = {"model": ModelSettings, "data": PromptSettings, "count": CountSettings}
    options: ClassVar = {"times": Option(int, 1, "how often")}
    trainer_options = MACHINE

    released: ClassVar[list[bool]] = []

    def prepare(self) -> None:
        """Plan the run."""
        self.plan = plan_prompts(self.settings["model"], self.config.trainer)

    def make(self) -> tuple[LightningModule, LightningDataModule]:
        """Module and prompts."""
        model = self.plan.model
        module = CountModule(model)
        module.least = self.settings["count"].least
        return module, PromptData(self.settings["data"], model.model_id, model.revision)

    def trainer_parts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Nothing to watch."""
        return {"callbacks": [], "logger": False, "enable_progress_bar": False}

    def run(self, trainer: Trainer, module: LightningModule, data: LightningDataModule) -> None:
        """Count."""
        assert isinstance(module, CountModule)
        for _ in range(self.config.times):
            trainer.predict(module, datamodule=data, return_predictions=False)
        say(f"{module.tokens} tokens")

    def release(self, failed: bool) -> None:
        """Note how it ended."""
        self.released.append(failed)


COMMAND = Count


@pytest.fixture(autouse=True)
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """`cli/run.py` as it is where `cli/count.py` is this file and `cli/commands.py` lists it."""
    monkeypatch.setitem(COMMANDS, "count", SENTENCE)
    monkeypatch.setitem(sys.modules, "logos_pl.cli.count", SimpleNamespace(COMMAND=COMMAND))
    spec = importlib.util.find_spec("logos_pl.cli.run")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(entry, "run_command", module.run_command)
    yield module
    Count.released.clear()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("tiny") / "tiny-llama")


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence of a command that ends with status 2."""
    capsys.readouterr()
    assert entry.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("logos-pl: ")


def test_it_stands_among_the_others_and_in_the_help(run: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert KINDS | {"count": Count} == run.KINDS
    assert "count" in run.SECTIONS
    assert f"  count     {SENTENCE}" in usage()
    with pytest.raises(SystemExit) as ended:
        entry.main(["count", "--help"])
    assert ended.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert SENTENCE in said
    assert "count prompts of this many tokens or more" in said, "the docstring of its settings is their help"
    assert "--times" in said
    assert "--trainer.devices" in said
    assert "--trainer.callbacks" not in said


def test_it_runs_with_its_own_options(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["count", f"--model.model_id={model}", "--trainer.accelerator=cpu", "--data.prompt=sun moon river"]
    for more, tokens in (([], 4), (["--times=3"], 12), (["--count.least=5"], 0)):
        assert entry.main([*arguments, *more]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == f"{tokens} tokens"
    assert Count.released == [False] * 3
    assert list(tmp_path.iterdir()) == [], "it keeps no configuration and no logs"


def test_one_configuration_serves_it_and_the_others(
    run: ModuleType, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run.LogosCLI, "instantiate_classes", lambda cli: None)
    path = tmp_path / "model.yaml"
    path.write_text(f"model: {{model_id: {model}, rank: 4}}\ncount: {{least: 2}}\ntimes: 5\nschedule: quick\n")
    arguments = [f"--config={path}", "--trainer.accelerator=cpu"]
    count, selftest = (run.LogosCLI(run.KINDS[name], arguments) for name in ("count", "selftest"))
    assert (count.config.times, count.command.settings["count"].least) == (5, 2)
    assert count.command.plan.known.shape.num_blocks == 4
    assert "count" not in selftest.config


def test_it_refuses_the_options_of_others_and_they_refuse_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    model = "--model.model_id=demo"
    assert "--data.tokens is an option of fit, but not of count" in refused(["count", model, "--data.tokens=5"], capsys)
    for option in ("--count.least=2", "--times=2"):
        name = option.partition("=")[0]
        assert f"{name} is an option of count, but not of fit" in refused(["fit", model, option], capsys)
    assert "did you mean --count.least?" in refused(["count", model, "--count.laest=5"], capsys)
    assert "did you mean count?" in refused(["cuont"], capsys)


@pytest.mark.parametrize(
    ("option", "named"),
    [("--count.least=-1", "--count.least must be at least 0"), ("--count.least=many", "--count.least")],
)
def test_values_out_of_bounds_are_refused_in_one_sentence(
    option: str, named: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert named in refused(["count", f"--model.model_id={model}", option], capsys)


def test_it_is_released_after_a_failure_in_its_preparation_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere" in refused(["count", "--model.model_id=./nowhere"], capsys)
    assert Count.released == [True]
