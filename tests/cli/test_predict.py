"""`logos-pl predict` before it runs, and several models in turn without running any."""

import errno
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from logos_pl.cli import predict
from logos_pl.cli.command_line import ELSEWHERE
from logos_pl.cli.predict import SeveralModelsError, each_model, file_name, refuse_same_names
from logos_pl.data.prompt_data import PromptData
from logos_pl.errors import InputError, InterruptedRunError, RunError
from logos_pl.modules.lens_loader import LensLoader
from logos_pl.modules.same_run import SameRun
from logos_pl.sweeps.module import SweepModule
from logos_pl.sweeps.writer import SweepDestination, SweepWriter
from tests.cli.parsed import command_of
from tests.tiny import make_model

DISK_IS_FULL = OSError(errno.ENOSPC, "No space left on device")


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
        command.prepare()
    assert several.value.models == ["org/a", "./b", "demo"]
    assert command.destination.settled is None


def test_the_run_of_one_model_passes_the_names_of_all_to_their_common_folder(model: Path) -> None:
    command = parsed(model, "--models", "org/other", str(model))
    command.one_of_several = True
    command.prepare()
    assert command.destination.settled == (Path("lightning_logs"), None, ["other", "tiny-llama"])
    assert command.plan.model.model_id == str(model)


def test_files_are_named_after_the_id_or_the_folder_wherever_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for given, name in (("org/Model-1B", "Model-1B"), (str(folder), "my-model"), (".", "my-model"), ("demo", "demo")):
        assert file_name(given) == name


def test_models_with_files_of_one_name_are_refused_together() -> None:
    refuse_same_names(["a/x", "a/y", "demo"])
    with pytest.raises(InputError, match="a/x and b/x would write the same files"):
        refuse_same_names(["a/x", "a/y", "b/x"])


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
    monkeypatch.setattr(predict, "gc", SimpleNamespace(collect=lambda: 0))
    calls: list[Any] = []

    def record(folder: str, skipped: list[tuple[str, str]]) -> None:
        calls.extend(skipped)

    def compare(folder: str, reports: list[Any]) -> Path:
        calls.append(len(reports))
        return tmp_path / "evaluation-cross-models.md"

    monkeypatch.setattr(predict, "record_skips", record)
    monkeypatch.setattr(predict, "write_cross_report", compare)
    return calls


def reading(outcomes: dict[str, Exception | None]) -> Callable[[str], None]:
    """Reads a model, or fails of it."""

    def read(model: str) -> None:
        error = outcomes[model]
        if error is not None:
            raise error

    return read


@pytest.mark.parametrize(
    ("errors", "status"),
    [
        ([None, None], 0),
        ([None, InputError("No.")], 2),
        ([InputError("No."), InputError("No.")], 2),
        ([InputError("No."), RunError("No.")], 1),
        ([RunError("No."), None], 1),
        ([KeyError("x"), None], 1),
        ([RuntimeError("a bug"), InputError("No.")], 1),
        ([MemoryError("Cannot allocate"), None], 1),
    ],
)
def test_the_status_is_two_only_if_all_failures_are_bad_input(
    errors: list[Exception | None], status: int, written: list[Any]
) -> None:
    outcomes = {f"model-{number}": error for number, error in enumerate(errors)}
    assert each_model(list(outcomes), Folder(read=1), reading(outcomes)) == status


def test_a_model_that_is_skipped_is_named_with_its_reason_once(
    written: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = {"a": InputError("No such model."), "b": None, "c": KeyError("no\n  layer")}
    each_model(list(outcomes), Folder(read=1), reading(outcomes))
    (first, second) = written
    assert first == ("a", "No such model.")
    assert second[0] == "c"
    assert second[1].startswith("KeyError: 'no\\n layer' (")
    said = capsys.readouterr()
    assert [line.split(":")[1].strip() for line in said.err.splitlines()] == ["a is skipped", "c is skipped"]
    assert [line for line in said.out.splitlines() if line.startswith("model ")] == [
        "model 1 of 3: a",
        "model 2 of 3: b",
        "model 3 of 3: c",
    ]
    assert "1 of 3 models were read" in said.out


@pytest.mark.parametrize("error", [InterruptedRunError("Stopped.", 15), DISK_IS_FULL])
def test_a_signal_or_a_full_disk_ends_all_models(error: Exception, written: list[Any]) -> None:
    outcomes = {"a": error, "b": AssertionError("the next one was begun")}
    with pytest.raises(type(error)) as caught:
        each_model(["a", "b"], Folder(read=0), reading(outcomes))
    assert caught.value is error


def test_a_full_disk_ends_them_all_as_the_cause_of_another_error_too(written: list[Any]) -> None:
    def read(model: str) -> None:
        raise RunError("The sweep could not be written.") from DISK_IS_FULL

    with pytest.raises(RunError, match="could not be written"):
        each_model(["a", "b"], Folder(read=0), read)


@pytest.mark.parametrize(("read", "compared"), [(0, []), (1, []), (2, [2])])
def test_two_models_or_more_are_compared(read: int, compared: list[int], written: list[Any]) -> None:
    each_model(["a", "b"], Folder(read=read), reading({"a": None, "b": None}))
    assert written == compared


def test_no_folder_is_made_if_no_model_could_be_read(written: list[Any]) -> None:
    outcomes = {"a": InputError("No."), "b": InputError("No.")}
    assert each_model(["a", "b"], Settled(), reading(outcomes)) == 2
    assert written == []
