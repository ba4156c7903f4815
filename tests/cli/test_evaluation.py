"""What `validate`, `test` and `predict` have in common: which lenses they read, and from where."""

from pathlib import Path
from typing import Any

import pytest

from logos_pl.artifacts.checkpoint_file import checkpoint_bytes
from logos_pl.cli.evaluation import Evaluation
from logos_pl.cli.plan import plan_prompts
from logos_pl.errors import InputError
from logos_pl.modules.lens_loader import LensLoader
from logos_pl.modules.reading_progress import ReadingProgress
from logos_pl.modules.same_run import SameRun
from logos_pl.settings.model import ModelSettings
from tests.artifacts.test_checkpoint_file import make_checkpoint
from tests.cli.parsed import command_of
from tests.tiny import make_model

EVALUATIONS = ("validate", "test", "predict")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("tiny") / "tiny-llama")


@pytest.fixture
def evaluation(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a command whose model is known, as it is when it looks for lenses."""
    monkeypatch.chdir(tmp_path)

    def planned(name: str, *arguments: str) -> Any:
        command = command_of(name, f"--model.model_id={model}", "--trainer.accelerator=cpu", *arguments)
        command.plan = plan_prompts(ModelSettings(model_id=str(model)), command.config.trainer)
        return command

    return planned


@pytest.mark.parametrize("name", EVALUATIONS)
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--lens.revision=v1"], ["--lens.revision", "--lens.source"]),
        (["--lens.source=x", "--ckpt_path=last"], ["--lens.source", "--ckpt_path"]),
        (["--ckpt_path=last"], ["last.ckpt", "lightning_logs/tiny-llama"]),
        (["--ckpt_path=nowhere.ckpt"], ["--ckpt_path nowhere.ckpt"]),
    ],
)
def test_options_that_name_no_lens_or_two_are_refused(
    name: str, arguments: list[str], named: list[str], evaluation: Any
) -> None:
    with pytest.raises(InputError) as caught:
        evaluation(name, *arguments).check_lens()
    assert [part for part in named if part not in str(caught.value)] == []


@pytest.mark.parametrize("name", ["test", "predict"])
def test_a_lens_that_nothing_reads_is_refused(name: str, evaluation: Any) -> None:
    with pytest.raises(InputError, match=rf"--lens\.sources\.toy .*{name} .*no lens named toy"):
        evaluation(name, '--lens.sources={"toy": "somewhere"}').check_lens()


@pytest.mark.parametrize("name", EVALUATIONS)
def test_best_is_replaced_by_the_path_of_the_checkpoint(name: str, evaluation: Any) -> None:
    path = Path("lightning_logs/tiny-llama/version_2/best.ckpt")
    path.parent.mkdir(parents=True)
    path.write_bytes(checkpoint_bytes(make_checkpoint()))
    command = evaluation(name, "--ckpt_path=best")
    command.check_lens()
    assert command.checkpoint == path
    (_, loader) = command.lens_callbacks()
    assert loader.requests["tuned"].source == str(path), "another fit may have ended when it is read"


@pytest.mark.parametrize("name", EVALUATIONS)
def test_a_lens_from_elsewhere_needs_no_checkpoint(name: str, evaluation: Any) -> None:
    command = evaluation(name, "--lens.source=org/lenses", "--lens.revision=v1")
    command.check_lens()
    assert command.checkpoint is None
    (_, loader) = command.lens_callbacks()
    assert (loader.requests["tuned"].source, loader.requests["tuned"].revision) == ("org/lenses", "v1")


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("validate", ["tuned", "prism", "jacobian", "imported"]),
        ("test", ["tuned", "prism", "jacobian", "imported"]),
        ("predict", ["tuned", "prism", "jacobian", "imported"]),
    ],
)
def test_lenses_are_loaded_after_the_processes_have_been_compared(
    name: str, kinds: list[str], model: Path, evaluation: Any
) -> None:
    same_run, loader = evaluation(name).lens_callbacks()
    assert isinstance(same_run, SameRun)
    assert isinstance(loader, LensLoader)
    assert list(loader.requests) == kinds
    request = loader.requests["tuned"]
    assert (request.model_id, request.clean_model_name) == ("tiny-llama", "tiny-llama"), "and no path of this machine"
    assert request.folder == Path("checkpoints/tuned_lenses/tiny-llama")
    assert request.fit_command == f"logos-pl fit --model.model_id {model}"


@pytest.mark.parametrize(("given", "shown"), [(None, True), (True, True), (False, False)])
def test_progress_is_shown_unless_the_user_says_no(given: bool | None, shown: bool) -> None:
    wanted = [ReadingProgress] if shown else []
    assert [type(callback) for callback in Evaluation.progress({"enable_progress_bar": given})] == wanted
