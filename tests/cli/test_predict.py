"""`logos-pl predict` before it runs, and several models in turn without running any."""

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from logos_pl.cli import predict, several_models
from logos_pl.cli.command_line import ELSEWHERE
from logos_pl.cli.predict import compare_models, with_cross_report
from logos_pl.cli.several_models import SeveralModelsError, each_model, hand_out
from logos_pl.data.prompt_data import PromptData
from logos_pl.errors import InputError
from logos_pl.modules.lens_loader import LensLoader
from logos_pl.modules.same_run import SameRun
from logos_pl.sweeps.module import SweepModule
from logos_pl.sweeps.writer import SweepDestination, SweepWriter
from tests.cli.parsed import command_of
from tests.tiny import make_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("tiny") / "tiny-llama")


class Settled(SweepDestination):
    """A destination that only notes what it is told, and is opened by no one."""

    settled: tuple[Any, ...] | None = None

    def resolve(self, *given: Any) -> None:
        self.settled = given

    def open(self) -> Any:
        raise AssertionError("a folder was made")


def parsed(model: str | Path, *arguments: str) -> Any:
    command = command_of("predict", f"--model.model_id={model}", "--trainer.accelerator=cpu", *arguments)
    command.destination = Settled()
    return command


# One model


def test_module_and_prompts_get_the_settings(model: Path) -> None:
    for option in ("attribution", "keep_residuals"):
        command = parsed(model, f"--sweep.{option}=true", "--data.prompt=sun", "--model.loss_block_mib=3")
        command.prepare()
        module, data = command.make()
        assert isinstance(module, SweepModule)
        assert isinstance(data, PromptData)
        assert {name: getattr(module, name) for name in ("attribution", "keep_residuals")} == {
            "attribution": option == "attribution",
            "keep_residuals": option == "keep_residuals",
        }
        assert (module.settings.dtype, module.settings.loss_block_mib) == ("float32", 3)
        assert (data.settings.prompt, data.model_id) == ("sun", str(model))


def test_the_writer_runs_after_the_loader_and_predictions_are_not_kept(model: Path) -> None:
    command = parsed(model, "--sweep.copy_threshold=0.5")
    command.prepare()
    parts = command.trainer_parts(command.config.trainer)
    same_run, loader, writer = parts.pop("callbacks")
    assert (type(same_run), type(loader), type(writer)) == (SameRun, LensLoader, SweepWriter)
    assert (writer.destination, writer.settings.copy_threshold) == (command.destination, 0.5)
    assert shlex.split(writer.command) == [
        "logos-pl", "predict", f"--model.model_id={ELSEWHERE}/tiny-llama", "--sweep.copy_threshold=0.5"
    ]  # fmt: skip
    assert parts == {"logger": False, "enable_progress_bar": False}

    calls: list[dict[str, Any]] = []
    trainer = SimpleNamespace(predict=lambda module, **given: calls.append(given))
    command.run(trainer, "module", "data")
    assert calls == [{"datamodule": "data", "return_predictions": False}], "they would stay in memory to the end"


def test_the_preparation_sets_the_destination_and_makes_no_folder(model: Path, tmp_path: Path) -> None:
    arguments = [f"--trainer.default_root_dir={tmp_path / 'logs'}", f"--sweep.out_dir={tmp_path / 'mine'}"]
    command = parsed(model, *arguments)
    command.prepare()
    assert command.destination.settled == (tmp_path / "logs", str(tmp_path / "mine"), ["tiny-llama"])
    assert list(tmp_path.iterdir()) == []


def test_more_than_one_process_is_refused(model: Path) -> None:
    with pytest.raises(InputError, match=r"--trainer\.devices 1"):
        parsed(model, "--trainer.devices=2").prepare()


# Several models


def test_several_models_are_asked_for_as_runs_of_their_own() -> None:
    command = parsed("nowhere", "--models", "org/a", "./b", "demo")
    with pytest.raises(SeveralModelsError) as several:
        hand_out(command)
    assert several.value.models == ["org/a", "./b", "demo"]
    assert command.destination.settled is None


def test_the_run_of_one_model_passes_the_names_of_all_to_their_common_folder(model: Path) -> None:
    command = parsed(model, "--models", "org/other@v1", str(model))
    command.one_of_several = True
    hand_out(command)
    command.prepare()
    assert command.destination.settled == (Path("lightning_logs"), None, ["other@v1", "tiny-llama"])
    assert command.plan.model.model_id == str(model)


class Folder(SweepDestination):
    """The destination of models that were read: those that a test names."""

    def __init__(self, read: int) -> None:
        super().__init__()
        reports: Any = [SimpleNamespace()] * read
        self.reports = reports

    def open(self) -> Any:
        return "folder"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """What is written beside the sweeps, without the seconds that clearing up after a model takes."""
    monkeypatch.setattr(several_models, "gc", SimpleNamespace(collect=lambda: 0))
    calls: list[Any] = []

    def record(folder: str, skipped: list[tuple[str, str]]) -> None:
        calls.extend(skipped)

    def compare(folder: str, reports: list[Any]) -> Path:
        calls.append(len(reports))
        return tmp_path / "evaluation-cross-models.md"

    monkeypatch.setattr(predict, "record_skips", record)
    monkeypatch.setattr(predict, "write_cross_report", compare)
    return calls


def sweep_each(outcomes: dict[str, Exception | None], destination: SweepDestination) -> int:
    def read(model: str) -> None:
        error = outcomes[model]
        if error is not None:
            raise error

    status = each_model(list(outcomes), read, with_cross_report(destination))
    compare_models(destination)
    return status


def test_a_model_that_is_skipped_is_recorded_once(written: list[Any]) -> None:
    outcomes: dict[str, Exception | None] = {"a": InputError("No such model."), "b": None, "c": KeyError("x")}
    sweep_each(outcomes, Folder(read=1))
    (first, second) = written
    assert first == ("a", "No such model.")
    assert second[0] == "c"


@pytest.mark.parametrize(("read", "compared"), [(0, []), (1, []), (2, [2])])
def test_two_models_or_more_are_compared(read: int, compared: list[int], written: list[Any]) -> None:
    sweep_each({"a": None, "b": None}, Folder(read=read))
    assert written == compared


def test_no_folder_is_made_if_no_model_could_be_read(written: list[Any]) -> None:
    assert sweep_each({"a": InputError("No."), "b": InputError("No.")}, Settled()) == 2
    assert written == []
