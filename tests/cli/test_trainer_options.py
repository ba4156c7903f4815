"""A configuration may name some of Lightning's own classes for the Trainer, and no other code."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from logos_pl.cli.entry import main
from logos_pl.cli.trainer_options import CLASSES, check_trainer, import_paths
from logos_pl.errors import InputError
from tests.tiny import fit_arguments, make_corpus, make_model

PLAIN = {
    "accelerator": "auto", "strategy": "auto", "devices": "auto", "num_nodes": 1, "plugins": None, "profiler": None
}  # fmt: skip


@pytest.fixture
def no_import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A module in the working directory that must not be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("stranger.py").write_text("raise SystemExit('imported')\n")


@pytest.mark.parametrize(
    "named",
    [
        "callbacks: LambdaCallback",
        "callbacks: {class_path: lightning.pytorch.callbacks.LambdaCallback, init_args: {setup: builtins.print}}",
        "callbacks: [{class_path: lightning.pytorch.callbacks.lambda_function.LambdaCallback}]",
        "callbacks: [{class_path: stranger.Callback}]",
        "callbacks: stranger.Callback",
        "callbacks: [os.system]",
        "callbacks: [lightning.pytorch.callbacks.early_stopping.torch.load]",
        "callbacks: [StochasticWeightAveraging]",
        "callbacks: [logos_pl.fit.ledger.Ledger]",
        "callbacks: 5",
        "callbacks: [null]",
        "callbacks: {class_path: 5}",
        "callbacks: {class_path: Timer, init_args: 5}",
        "callbacks: {class_path: Timer, init_args: {durations: 1}}",
        "logger: {class_path: stranger.Logger, init_args: {save_dir: x}}",
        "logger: y",
        "logger: [true]",
        "plugins: [stranger.Plugin]",
        "plugins: x",
        "plugins: AsyncCheckpointIO",
        "profiler: stranger.Profiler",
        "profiler: x",
        "profiler: {class_path: PyTorchProfiler, init_args: {schedule: os.system}}",
        "strategy: stranger.Strategy",
        "strategy: foo",
        "strategy: {class_path: FSDPStrategy}",
        "strategy: {class_path: DDPStrategy, init_args: {ddp_comm_hook: os.system}}",
        "accelerator: stranger.Accelerator",
        "accelerator: {class_path: stranger.Accelerator}",
        "accelerator: tpu",
        "devices: []",
        "devices: [0, 0]",
        "devices: {a: 1}",
        "num_nodes: 0",
    ],
)
def test_other_code_and_nonsense_are_refused_before_anything_is_imported(
    named: str, no_import: None, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("c.yaml").write_text(f"model: {{model_id: demo}}\ntrainer: {{{named}}}\n")
    assert main(["fit", "--config=c.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(("logos-pl: --trainer.", "logos-pl: there is no device"))
    assert len(line) < 500
    assert "stranger" not in sys.modules


@pytest.mark.parametrize("argument", ["--trainer.callbacks+=stranger.X", "--trainer.logger.class_path=stranger.X",
                                      "--trainer.callbacks.help=stranger.X"])  # fmt: skip
def test_the_command_line_names_no_other_code_either(
    argument: str, no_import: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--model.model_id=demo", argument]) == 2
    assert capsys.readouterr().err.startswith("logos-pl: --trainer.")
    assert "stranger" not in sys.modules


def test_the_classes_that_may_be_named_exist_and_take_no_functions_by_name() -> None:
    for package, names in CLASSES.items():
        for name in names:
            assert isinstance(getattr(package, name), type)
            assert f"{package.__name__}.{name}" in import_paths()
    assert not any("Lambda" in path for path in import_paths())


@pytest.mark.parametrize("devices", ["auto", 1, 2, "2", "0,1", [0], [0, 1], "[0, 1]"])
def test_devices_are_a_number_a_list_or_auto(devices: Any) -> None:
    check_trainer(SimpleNamespace(**PLAIN | {"devices": devices}))


@pytest.mark.parametrize("devices", [0, -1, "0", "-1", [], [-1], [0, 0], "a", "0,", "0,a", [10**9], "", "²", 1.5])
def test_other_devices_are_refused(devices: Any) -> None:
    with pytest.raises(InputError, match=r"^--trainer.devices must be a positive number"):
        check_trainer(SimpleNamespace(**PLAIN | {"devices": devices}))


def test_a_class_that_cannot_be_made_and_options_that_clash_are_refused_and_leave_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = fit_arguments(make_model(tmp_path / "tiny"), make_corpus(tmp_path / "corpus", 200), tmp_path)
    timer = '{"class_path": "Timer", "init_args": {"duration": "x"}}'
    for argument, status, says in (
        (f"--trainer.callbacks={timer}", 2, "--trainer cannot be"),
        ("--trainer.devices=[0]", 2, "The --trainer options cannot be used"),
        ("--data.text_column=body", 2, "--data.text_column"),
        ("--export.folder=/dev/null", 1, "Cannot write to"),
    ):
        capsys.readouterr()
        assert main(["fit", *arguments, argument]) == status
        (line,) = capsys.readouterr().err.splitlines()
        assert says in line
        assert not (tmp_path / "lightning_logs" / "tiny").exists()
