"""Two processes give the lens, and the prism, that one gives, also in turn; and what one refuses, both refuse."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from logos_pl.cli.entry import main
from logos_pl.fit.module import TuningModule
from tests.tiny import accepted, fit_arguments, make_model

pytestmark = pytest.mark.slow

TWO = {"trainer.devices": 2, "trainer.strategy": "ddp"}


STOPPED_IN_STEP_7 = """
import os, signal, sys
from logos_pl.fit.module import TuningModule
from logos_pl.cli.entry import main
inner = TuningModule.training_step
def step(self, batch, index):
    if self.global_step == 6 and os.environ.get("LOCAL_RANK", "0") == "0":
        os.kill(os.getpid(), signal.SIGTERM)
    return inner(self, batch, index)
TuningModule.training_step = step
if __name__ == "__main__":
    sys.exit(main())
"""


def run(command_name: str, arguments: list[str]) -> None:
    done = run_script([sys.executable, "-m", "logos_pl"], command_name, arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def run_script(script: list[str], command_name: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [*script, command_name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def lenses(tiny: dict[str, Path], fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    two = tmp_path_factory.mktemp("two")
    run("fit", fit_arguments(**tiny, logs=two, **TWO))
    return fitted / "lenses" / "tiny-llama", two / "lenses" / "tiny-llama"


@pytest.mark.parametrize(("file", "trained"), [("weights.pt", "V"), ("bias_only.pt", "c")])
def test_two_processes_train_the_weights_that_one_trains(file: str, trained: str, lenses: tuple[Path, Path]) -> None:
    one, two = (torch.load(lens / file, weights_only=True) for lens in lenses)

    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-5, atol=5e-6)
    assert not torch.equal(one[trained], torch.zeros_like(one[trained]))


def test_two_processes_read_the_same_text_and_record_it(lenses: tuple[Path, Path]) -> None:
    one, two = (json.loads((lens / "provenance.json").read_text()) for lens in lenses)

    assert two["dataset"] == one["dataset"]
    assert two["budget"] == one["budget"]
    assert (one["batching"]["world_size"], one["batching"]["grad_accum"]) == (1, 2)
    assert (two["batching"]["world_size"], two["batching"]["grad_accum"]) == (2, 1)
    assert one["batching"]["effective_batch_seqs"] == two["batching"]["effective_batch_seqs"] == 8
    for percentile, readings in one["val_kl_bits"].items():
        for lens in ("norm", "tuned"):
            assert two["val_kl_bits"][percentile][lens] == pytest.approx(readings[lens], abs=1e-5)


def test_a_fit_of_one_process_then_two_then_one_counts_and_trains_the_same(
    tiny: dict[str, Path], lenses: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is stopped in the middle of an interval: in the first half of the first step, and after the seventh."""
    one, two = (["fit", *fit_arguments(**tiny, logs=tmp_path, **options)] for options in ({}, TWO))
    with monkeypatch.context() as patch:
        inner = TuningModule.training_step

        def step(self: TuningModule, batch: Any, index: int) -> Any:
            if index == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            return inner(self, batch, index)

        patch.setattr(TuningModule, "training_step", step)
        assert main(one) == 128 + signal.SIGTERM
    script = tmp_path / "stopped.py"
    script.write_text(STOPPED_IN_STEP_7)
    stopped = run_script([sys.executable, str(script)], two[0], [*two[1:], "--ckpt_path=last"])
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr
    assert stopped.stderr.startswith("logos-pl: Stopped by SIGTERM after step 7;")
    assert stopped.stderr.count("\n") == 1, "one of them says it"
    assert main([*one, "--ckpt_path=last"]) == 0

    resumed = tmp_path / "lenses" / "tiny-llama"
    provenance, wanted = (json.loads((lens / "provenance.json").read_text()) for lens in (resumed, lenses[0]))
    for part in ("dataset", "budget", "batching", "optim"):
        assert provenance[part] == wanted[part]
    for file in ("weights.pt", "bias_only.pt"):
        weights, whole = (torch.load(lens / file, weights_only=True) for lens in (resumed, lenses[0]))
        for name, tensor in whole.items():
            torch.testing.assert_close(weights[name], tensor, rtol=1e-5, atol=1e-6)


def test_what_the_first_process_refuses_ends_both_with_one_sentence(
    tiny: dict[str, Path], lenses: tuple[Path, Path], tmp_path: Path
) -> None:
    other = make_model(tmp_path / "other" / "tiny-llama", seed=1)
    arguments = fit_arguments(other, tiny["corpus"], tmp_path, **TWO | {"export.folder": lenses[0].parent})
    done = run_script([sys.executable, "-m", "logos_pl"], "fit", arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("logos-pl: ")


def test_two_processes_fit_the_prism_that_one_fits(tiny: dict[str, Path], tmp_path: Path) -> None:
    maps, provenances = [], []
    arguments = fit_arguments(**tiny, logs=tmp_path, **{"prism.positions": 1500})
    assert main([*accepted("prism", arguments), f"--prism.folder={tmp_path / 'one'}"]) == 0
    two_processes = [f"--prism.folder={tmp_path / 'two'}", *(f"--{key}={value}" for key, value in TWO.items())]
    _, *own = accepted("prism", [*arguments, *two_processes])
    run("prism", own)
    for name in ("one", "two"):
        folder = tmp_path / name / "tiny-llama"
        maps.append([torch.load(folder / file, weights_only=True) for file in ("whiten.pt", "rotation.pt")])
        provenances.append(json.loads((folder / "provenance.json").read_text()))

    for one, two in zip(*maps, strict=True):
        for part, tensor in one.items():
            torch.testing.assert_close(two[part], tensor, rtol=1e-6, atol=1e-6)
    one, two = provenances
    assert (one.pop("world_size"), two.pop("world_size")) == (1, 2)
    same = ("dataset", "budget", "positions", "whiten", "depths", "rows", "rank")
    assert {key: two[key] for key in same} == {key: one[key] for key in same}
    for a, b in zip(one["candidates"], two["candidates"], strict=True):
        assert b["kl_from_final_bits"] == pytest.approx(a["kl_from_final_bits"], abs=1e-5)
