"""Several models or revisions in turn: without running any, and revisions of a tiny model in a Hub cache."""

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from logos_pl.cli import several_models
from logos_pl.cli.entry import main
from logos_pl.cli.several_models import SeveralModelsError, each_model, hand_out, refuse_same_names
from logos_pl.errors import GatesNotPassedError, InputError, InterruptedRunError, RunError
from tests.cli.parsed import command_of
from tests.steps import REPO, commit_of, documents, make_steps, offline
from tests.tiny import accepted, fit_arguments

DISK_IS_FULL = OSError(errno.ENOSPC, "No space left on device")


def run_each(outcomes: dict[str, Exception | None], **options: Any) -> int:
    """Runs models that succeed or fail as they are told."""
    return each_model(list(outcomes), running(outcomes), **options)


def running(outcomes: dict[str, Exception | None]) -> Callable[[str], None]:
    def run(model: str) -> None:
        error = outcomes[model]
        if error is not None:
            raise error

    return run


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the seconds that clearing up after a model takes."""
    monkeypatch.setattr(several_models, "gc", SimpleNamespace(collect=lambda: 0))


@pytest.mark.usefixtures("quick")
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
        ([GatesNotPassedError("Gate A failed."), None], 3),
        ([GatesNotPassedError("Gate A failed."), InputError("No.")], 2),
    ],
)
def test_the_status_is_two_only_if_all_failures_are_bad_input_and_three_for_gates_alone(
    errors: list[Exception | None], status: int
) -> None:
    assert run_each({f"model-{number}": error for number, error in enumerate(errors)}) == status


@pytest.mark.usefixtures("quick")
def test_a_model_that_is_skipped_is_named_with_its_reason_once(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes: dict[str, Exception | None] = {"a": InputError("No such model."), "b": None, "c": KeyError("no\n  layer")}
    kept: list[tuple[str, str]] = []

    def after(skipped: list[tuple[str, str]]) -> None:
        kept.extend(skipped)
        skipped.clear()

    run_each(outcomes, after=after, done="fitted")
    (first, second) = kept
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
    assert "1 of 3 models were fitted" in said.out


@pytest.mark.usefixtures("quick")
def test_a_failed_gate_is_said_of_its_model_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_each({"a": GatesNotPassedError("Gate A failed."), "b": None}) == 3
    said = capsys.readouterr()
    assert said.err == "logos-pl: a: Gate A failed.\n"
    assert "model 2 of 2: b" in said.out


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("error", [InterruptedRunError("Stopped.", 15), DISK_IS_FULL])
def test_a_signal_or_a_full_disk_ends_all_models(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        run_each({"a": error, "b": AssertionError("the next one was begun")})
    assert caught.value is error


@pytest.mark.usefixtures("quick")
def test_a_full_disk_ends_them_all_as_the_cause_of_another_error_too() -> None:
    def run(model: str) -> None:
        raise RunError("The sweep could not be written.") from DISK_IS_FULL

    with pytest.raises(RunError, match="could not be written"):
        each_model(["a", "b"], run)


def test_models_with_files_of_one_name_are_refused_together() -> None:
    refuse_same_names(["a/x", "a/y", "demo", "a/x@v1", "a/x@v2"])
    for pair in (["a/x", "b/x"], ["a/x@v/1", "a/x@v-1"]):
        with pytest.raises(InputError, match=f"{pair[0]} and {pair[1]} would write the same files"):
            refuse_same_names(["a/y", *pair])


@pytest.mark.parametrize("name", ["fit", "test", "validate", "predict", "prism", "jacobian"])
def test_every_command_on_one_model_runs_on_several(name: str) -> None:
    command = command_of(name, "--model.model_id=nowhere", "--models", "org/a@v1", "org/a@v2")
    with pytest.raises(SeveralModelsError) as several:
        hand_out(command)
    assert several.value.models == ["org/a@v1", "org/a@v2"]
    command.one_of_several = True
    hand_out(command)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--trainer.devices=2"], "--models runs one model after the other in one process"),
        (["--ckpt_path=last"], "--ckpt_path resumes the fit of one model"),
    ],
)
def test_what_is_for_one_model_or_process_is_refused_with_several(options: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        hand_out(command_of("fit", "--model.model_id=nowhere", "--models", "a/b", "a/c", *options))


# Revisions of a tiny model


@pytest.fixture(scope="module")
def steps(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("hub")
    make_steps(cache, tiny["model"])
    return cache


@pytest.fixture
def hub(steps: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from offline(monkeypatch, steps)


@pytest.mark.usefixtures("hub")
def test_a_fit_a_test_and_a_sweep_of_two_revisions_have_folders_of_their_own_and_one_commit_each(
    tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = fit_arguments(**tiny, logs=tmp_path)
    given = [option for option in given if not option.startswith("--model.model_id")]
    both = [f"{REPO}@step0", f"{REPO}@step1000"]
    assert main(["fit", f"--model.model_id={REPO}", *given, "--models", *both]) == 0
    lenses = {path.name: json.loads((path / "provenance.json").read_text()) for path in (tmp_path / "lenses").iterdir()}
    assert set(lenses) == {"steps@step0", "steps@step1000"}
    wanted = {"steps@step0": commit_of(0), "steps@step1000": commit_of(1)}
    for name, lens in lenses.items():
        assert (lens["model_id"], lens["clean_model_name"]) == (REPO, "steps")
        assert (lens["model_commit"], lens["tokenizer_commit"]) == (wanted[name], wanted[name])
    runs = {path.name for path in (tmp_path / "lightning_logs").iterdir()}
    assert runs == {"steps@step0", "steps@step1000"}
    config = (tmp_path / "lightning_logs/steps@step1000/version_0/config.yaml").read_text()
    assert "model_id: org/steps@step1000" in config
    assert "models: null" in config, "a resumed fit is of this model alone"

    tested = accepted("test", [f"--model.model_id={REPO}", *given])
    assert main([*tested, "--intermediates.suite=off", f"--data.suite={facts(tmp_path)}", "--models", *both]) in (0, 3)
    for name in lenses:
        gates = json.loads((tmp_path / "lenses" / name / "gates.json").read_text())
        assert gates["model"] == {"model_id": REPO, "model_commit": wanted[name]}

    swept = [*accepted("predict", [f"--model.model_id={REPO}", *given]), "--data.prompt=sun moon", "--data.answer=sea"]
    out = tmp_path / "out"
    assert main([*swept, f"--sweep.out_dir={out}", "--models", *both]) == 0
    found = documents(out, "output-*.json")
    assert set(found) == {"output-steps@step0.json", "output-steps@step1000.json"}
    for name, document in found.items():
        filed = name.removeprefix("output-").removesuffix(".json")
        model: Any = document["model"]
        assert (model["model_id"], model["clean_model_name"]) == (REPO, filed)
        assert model["model_commit"] == model["tokenizer_commit"] == wanted[filed]
        tuned: Any = document["tuned_lens"]
        assert tuned["provenance"]["weights_sha256"] == lenses[filed]["sha256"]["weights.pt"]
    report = (out / "evaluation-cross-models.md").read_text()
    assert "org/steps@step0" in report.replace("\\", "")
    page = (out / "output-steps@step0-page.html").read_text()
    assert "--model.model_id=org/steps@step0" in page
    assert "same fingerprint" not in capsys.readouterr().err


def facts(folder: Path) -> Path:
    """A suite of two facts."""
    path = folder / "facts.yaml"
    items = "".join(f"- {{id: {word}, prompt: {word} moon, answer: sea}}\n" for word in ("sun", "star"))
    path.write_text(f"facts:\n{items}")
    return path


@pytest.mark.usefixtures("hub")
def test_revisions_with_the_weights_of_another_are_named(tiny: dict[str, Path], tmp_path: Path) -> None:
    swept = accepted("predict", [f"--model.model_id={REPO}", *fit_arguments(**tiny, logs=tmp_path)[1:]])
    models = [f"{REPO}@{revision}" for revision in ("step2000", "step3000", "main")]
    with pytest.warns(UserWarning, match="steps@step3000 and steps@main have the same fingerprint") as caught:
        assert main([*swept, "--data.prompt=sun moon", f"--sweep.out_dir={tmp_path / 'out'}", "--models", *models]) == 0
    assert len([one for one in caught if "fingerprint" in str(one.message)]) == 1


@pytest.mark.usefixtures("hub")
def test_a_lens_of_one_revision_is_not_read_with_another(
    tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = fit_arguments(**tiny, logs=tmp_path)[1:]
    assert main(["fit", f"--model.model_id={REPO}@step0", *given]) == 0
    other = accepted("validate", [f"--model.model_id={REPO}@step1000", *given])
    assert main(other) == 2
    assert "There is no tuned lens at" in capsys.readouterr().err
    assert main([*other, f"--lens.source={os.path.relpath(tmp_path / 'lenses' / 'steps@step0')}"]) == 2
    said = capsys.readouterr().err
    assert f"at commit {commit_of(0)}, but the model is at {commit_of(1)}" in said
