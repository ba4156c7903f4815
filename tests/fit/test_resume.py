"""A run that is killed or stopped and then resumed ends with the weights of one that was not, bit for bit."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from logos_pl.artifacts.checkpoint_file import checkpoint_bytes, read_checkpoint
from logos_pl.cli.entry import main
from logos_pl.errors import InputError
from logos_pl.fit.module import TuningModule
from logos_pl.fit.resume import OPTIMIZER_STEPS, refuse_other_loops
from tests.tiny import fit_arguments

pytestmark = pytest.mark.slow

KILL = "os.kill(os.getpid(), signal.SIGKILL)"

# Each runs in the process to be killed, before the command line does: what is patched is only the moment of the kill.
MOMENTS = {
    "before the first validation": f"""
        inner = TuningModule.training_step
        def step(self, batch, index):
            if self.global_step == 2:
                {KILL}
            return inner(self, batch, index)
        TuningModule.training_step = step
    """,
    "in a step": f"""
        inner = TuningModule.training_step
        def step(self, batch, index):
            if self.global_step == 6:
                {KILL}
            return inner(self, batch, index)
        TuningModule.training_step = step
    """,
    "in a validation": f"""
        inner = TuningModule.validation_step
        def step(self, batch, index):
            if self.global_step == 8 and index == 1:
                {KILL}
            return inner(self, batch, index)
        TuningModule.validation_step = step
    """,
    "while writing a checkpoint": f"""
        inner = checkpoint.replace_file
        calls = []
        def write(path, data):
            calls.append(path)
            if len(calls) == 4:  # the second `last`
                path.with_name("." + path.name + ".partial").write_bytes(bytes(data)[: len(data) // 2])
                {KILL}
            inner(path, data)
        checkpoint.replace_file = write
    """,
    "between best and last": f"""
        inner = checkpoint.replace_file
        calls = []
        def write(path, data):
            calls.append(path)
            inner(path, data)
            if len(calls) == 3:  # the second `best` is there, the second `last` is not
                {KILL}
        checkpoint.replace_file = write
    """,
    "while exporting": f"""
        from logos_pl.fit import export
        def save(*arguments):
            {KILL}
        export.save_tuned_lens = save
    """,
}
STOP = """
        inner = TuningModule.training_step
        def step(self, batch, index):
            if self.global_step == {step} and index % 2 == 0:
                os.kill(os.getpid(), signal.{name})
            return inner(self, batch, index)
        TuningModule.training_step = step
"""


@pytest.fixture(scope="module")
def uninterrupted(fitted: Path) -> Path:
    """The folder of a run that nothing happened to."""
    return fitted


def run_and_die(arguments: list[str], patch: str) -> subprocess.CompletedProcess[str]:
    lines = "\n".join(line[8:] for line in patch.splitlines())
    script = (
        "import os, signal, sys\n"
        "from logos_pl.fit import checkpoint\n"
        "from logos_pl.fit.module import TuningModule\n"
        "from logos_pl.cli.entry import main\n"
        f"{lines}\n"
        f"sys.exit(main({arguments!r}))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False, start_new_session=True
    )


def artifact(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    (lens,) = (folder / "lenses").iterdir()
    weights = {
        f"{file}: {name}": tensor
        for file in ("weights.pt", "bias_only.pt")
        for name, tensor in torch.load(lens / file, weights_only=True).items()
    }
    return weights, json.loads((lens / "provenance.json").read_text())


def assert_same_outcome(folder: Path, reference: Path) -> None:
    weights, provenance = artifact(folder)
    wanted_weights, wanted = artifact(reference)
    for name, tensor in wanted_weights.items():
        assert torch.equal(weights[name], tensor), f"{name} differs"
    assert provenance == wanted
    last, wanted_last = (torch.load(next(where.rglob("last.ckpt")), weights_only=True) for where in (folder, reference))
    for state, other in zip(last["optimizer_states"], wanted_last["optimizer_states"], strict=True):
        for key, slots in state["state"].items():
            assert all(torch.equal(value, other["state"][key][name]) for name, value in slots.items())
    assert last["lr_schedulers"] == wanted_last["lr_schedulers"]
    assert last["callbacks"].keys() == wanted_last["callbacks"].keys()
    assert last["TrainingText"] == wanted_last["TrainingText"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_killed_at_any_moment_resumes_to_the_same_weights(
    moment: str, tiny: dict[str, Path], uninterrupted: Path, tmp_path: Path
) -> None:
    arguments = ["fit", *fit_arguments(**tiny, logs=tmp_path)]

    died = run_and_die(arguments, MOMENTS[moment])
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not (tmp_path / "lenses" / "tiny-llama").exists()

    assert main([*arguments, "--ckpt_path=last"]) == 0
    assert_same_outcome(tmp_path, uninterrupted)


@pytest.mark.parametrize(("name", "step"), [("SIGTERM", 5), ("SIGINT", 7), ("SIGTERM", 3)])
def test_a_stopped_run_leaves_a_checkpoint_and_resumes_to_the_same_weights(
    name: str, step: int, tiny: dict[str, Path], uninterrupted: Path, tmp_path: Path
) -> None:
    """In the first half of a step: the fourth, which is the last before a validation, the eighth too, the sixth."""
    arguments = ["fit", *fit_arguments(**tiny, logs=tmp_path)]

    stopped = run_and_die(arguments, STOP.format(step=step, name=name))
    assert stopped.returncode == 128 + signal.Signals[name], stopped.stderr
    assert stopped.stderr.strip().startswith(f"logos-pl: Stopped by {name} after step {step};")
    assert "Stopping after this micro-batch; " in stopped.stdout
    assert "Traceback" not in stopped.stderr

    assert main([*arguments, "--ckpt_path=last"]) == 0
    assert_same_outcome(tmp_path, uninterrupted)


def test_a_stop_right_before_the_best_validation_does_not_lose_it(tiny: dict[str, Path], tmp_path: Path) -> None:
    """With this learning rate the first step's validation is the best, and the fit stops early after the fourth."""
    options = {"schedule": "spec", "model.lr": 0.3, "data.validate_every_steps": 1}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(["fit", *fit_arguments(**tiny, logs=whole, **options)]) == 0
    assert artifact(whole)[1]["optim"]["exported_step"] == 1

    arguments = ["fit", *fit_arguments(**tiny, logs=parts, **options)]
    stopped = run_and_die(arguments, STOP.format(step=0, name="SIGTERM"))
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr
    assert main([*arguments, "--ckpt_path=last"]) == 0
    assert_same_outcome(parts, whole)


def test_resuming_a_finished_run_exports_the_same_lens_again(
    tiny: dict[str, Path], uninterrupted: Path, tmp_path: Path
) -> None:
    arguments = ["fit", *fit_arguments(**tiny, logs=tmp_path)]
    assert main(arguments) == 0

    assert main([*arguments, "--ckpt_path=last"]) == 0
    assert_same_outcome(tmp_path, uninterrupted)
    assert [path.name for path in (tmp_path / "lenses").iterdir()] == ["tiny-llama"], "the same lens is not kept twice"


def test_a_run_stopped_early_stays_stopped_when_resumed(tiny: dict[str, Path], tmp_path: Path) -> None:
    arguments = ["fit", *fit_arguments(**tiny, logs=tmp_path)]
    arguments += ["--early_stopping.patience=1", "--model.lr=1e-30"]
    assert main(arguments) == 0
    weights, provenance = artifact(tmp_path)
    assert provenance["optim"]["stopped_early"]
    assert provenance["optim"]["steps_done"] == 4  # the start sets the mark, the first validation misses it

    assert main([*arguments, "--ckpt_path=last"]) == 0
    assert artifact(tmp_path)[1] == provenance
    assert all(torch.equal(value, weights[name]) for name, value in artifact(tmp_path)[0].items())


def test_a_run_resumes_from_a_moved_folder(tiny: dict[str, Path], uninterrupted: Path, tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    stopped = run_and_die(["fit", *fit_arguments(**tiny, logs=before)], STOP.format(step=9, name="SIGTERM"))
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr
    os.rename(before, after)

    assert main(["fit", *fit_arguments(**tiny, logs=after), "--ckpt_path=last"]) == 0
    assert_same_outcome(after, uninterrupted)


def test_ctrl_c_reaches_the_workers_too_and_the_run_still_stops_in_order(
    tiny: dict[str, Path], uninterrupted: Path, tmp_path: Path
) -> None:
    """A terminal sends Ctrl-C to the whole process group, and so do schedulers with SIGTERM."""
    arguments = ["fit", *fit_arguments(**tiny, logs=tmp_path, **{"data.num_workers": 1})]
    to_the_group = STOP.format(step=5, name="SIGINT").replace("os.kill(os.getpid()", "os.killpg(os.getpgid(0)")
    stopped = run_and_die(arguments, to_the_group)
    assert stopped.returncode == 128 + signal.SIGINT, stopped.stderr
    assert stopped.stderr.startswith("logos-pl: Stopped by SIGINT after step 5;")

    assert main([*arguments, "--ckpt_path=last"]) == 0
    assert_same_outcome(tmp_path, uninterrupted)


def test_reading_ahead_in_a_worker_changes_nothing(tiny: dict[str, Path], uninterrupted: Path, tmp_path: Path) -> None:
    arguments = ["fit", *fit_arguments(**tiny, logs=tmp_path, **{"data.num_workers": 1})]
    stopped = run_and_die(arguments, STOP.format(step=5, name="SIGTERM"))
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr

    assert main([*arguments, "--ckpt_path=last"]) == 0
    assert_same_outcome(tmp_path, uninterrupted)


def test_a_best_checkpoint_of_another_run_is_not_exported(
    tiny: dict[str, Path], uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two folders mixed up: the lens would be recorded as what this run has trained."""
    shutil.copytree(uninterrupted, tmp_path, dirs_exist_ok=True)
    best = next(tmp_path.rglob("best.ckpt"))
    checkpoint = read_checkpoint(best)
    checkpoint["lens_identity"]["seed"] += 1
    best.write_bytes(checkpoint_bytes(checkpoint))

    assert main(["fit", *fit_arguments(**tiny, logs=tmp_path), "--ckpt_path=last"]) == 2
    assert "best.ckpt belongs to another run, with seed 317 (now 316)" in capsys.readouterr().err
    assert_same_outcome(tmp_path, uninterrupted)


def test_a_checkpoint_without_counters_does_not_train_for_ever(
    tiny: dict[str, Path], fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(fitted, tmp_path, dirs_exist_ok=True)
    best = next(tmp_path.rglob("best.ckpt"))
    checkpoint = read_checkpoint(best)
    checkpoint["loops"]["fit_loop"] = {}
    best.write_bytes(checkpoint_bytes(checkpoint))

    assert main(["fit", *fit_arguments(**tiny, logs=tmp_path), f"--ckpt_path={best}"]) == 2
    assert "The checkpoint's state of the training loop is invalid (KeyError" in capsys.readouterr().err


def fresh_loop() -> dict[str, Any]:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    return copy.deepcopy(trainer.fit_loop.state_dict())


def leaves(state: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Every counter, as the mapping that holds it and its key."""
    for key, value in state.items():
        yield from leaves(value) if isinstance(value, dict) and value else [(state, key)]


def remove(holder: dict[str, Any], key: str) -> None:
    del holder[key]


def another_type(holder: dict[str, Any], key: str) -> None:
    holder[key] = "3"


def negative(holder: dict[str, Any], key: str) -> None:
    holder[key] = -1


@pytest.mark.parametrize("damage", [remove, another_type, negative])
def test_every_counter_of_the_training_loop_must_be_there(damage: Callable[[dict[str, Any], str], None]) -> None:
    fresh = fresh_loop()
    refuse_other_loops({"loops": {"fit_loop": copy.deepcopy(fresh)}, "global_step": 0}, fresh)
    numbered = [index for index, (holder, key) in enumerate(leaves(fresh)) if not isinstance(holder[key], dict)]
    assert len(numbered) > 30
    for index in numbered:
        damaged = copy.deepcopy(fresh)
        damage(*list(leaves(damaged))[index])
        with pytest.raises(InputError, match=r"^The checkpoint's state of the training loop is invalid"):
            refuse_other_loops({"loops": {"fit_loop": damaged}, "global_step": 0}, fresh)


def test_the_optimisers_steps_are_those_of_the_checkpoint() -> None:
    fresh = fresh_loop()
    counted = copy.deepcopy(fresh)
    counted[OPTIMIZER_STEPS]["optimizer"]["step"]["total"]["completed"] = 3
    refuse_other_loops({"loops": {"fit_loop": counted}, "global_step": 3}, fresh)
    with pytest.raises(InputError, match="3 optimiser steps and a global_step of 4"):
        refuse_other_loops({"loops": {"fit_loop": counted}, "global_step": 4}, fresh)


def test_a_fit_in_two_passes_counts_its_text_once_and_resumes_within_the_second(
    tiny: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = {"data.tokens": 6 * 8 * 32}
    whole, parts, once = (tmp_path / name for name in ("whole", "parts", "once"))
    twice = text | {"data.passes": 2}
    assert main(["fit", *fit_arguments(**tiny, logs=whole, **twice)]) == 0
    assert "12 of 12 steps, 1,536 tokens (3,072 trained on), " in capsys.readouterr().out
    assert main(["fit", *fit_arguments(**tiny, logs=once, **text)]) == 0
    provenance, of_one_pass = (artifact(folder)[1] for folder in (whole, once))
    assert provenance["budget"] == of_one_pass["budget"] | {"tokens_trained": 2 * 1536, "passes": 2}
    assert provenance["dataset"] == of_one_pass["dataset"]
    assert provenance["init"] == of_one_pass["init"], "the start reads the text of one pass"
    assert provenance["optim"]["steps_done"] == 2 * of_one_pass["optim"]["steps_done"] == 12

    arguments = ["fit", *fit_arguments(**tiny, logs=parts, **twice)]
    inner = TuningModule.training_step
    with monkeypatch.context() as patch:

        def step(self: TuningModule, batch: Any, index: int) -> Any:
            if self.global_step == 8:
                os.kill(os.getpid(), signal.SIGTERM)
            return inner(self, batch, index)

        patch.setattr(TuningModule, "training_step", step)
        assert main(arguments) == 128 + signal.SIGTERM
    assert main([*arguments, "--ckpt_path=last"]) == 0
    assert_same_outcome(parts, whole)
