"""Two processes that have a model together give what one process with the whole model gives."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from logos_pl.cli.entry import main
from tests.tiny import WORDS, accepted, fit_arguments

pytestmark = pytest.mark.slow

SHARDED = {"model.placement": "sharded", "trainer.devices": 2}
KILLED = """
import os, signal, sys
from logos_pl.cli.entry import main
from logos_pl.fit.module import TuningModule
inner = TuningModule.training_step
def step(self, batch, index):
    if self.global_step == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return inner(self, batch, index)
TuningModule.training_step = step
if __name__ == "__main__":
    sys.exit(main())
"""


def run(arguments: list[str], script: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(["-m", "logos_pl"] if script is None else [str(script)]), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=os.environ)


def fitted_by(tiny: dict[str, Path], logs: Path, *more: str, **options: Any) -> None:
    done = run(["fit", *fit_arguments(**tiny, logs=logs, **SHARDED, **options), *more])
    assert (done.returncode, done.stderr) == (0, "")
    assert "in 2 shards on cpu in float32" in done.stdout


@pytest.fixture(scope="module")
def sharded(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    logs = tmp_path_factory.mktemp("sharded")
    fitted_by(tiny, logs)
    return logs


def assert_close_lenses(one: Path, two: Path) -> None:
    for file in ("weights.pt", "bias_only.pt"):
        a, b = (torch.load(logs / "lenses" / "tiny-llama" / file, weights_only=True) for logs in (one, two))
        for name, tensor in a.items():
            torch.testing.assert_close(b[name], tensor, rtol=1e-5, atol=5e-6)


def test_a_sharded_fit_gives_the_lens_of_one_process(fitted: Path, sharded: Path) -> None:
    assert_close_lenses(fitted, sharded)
    one, two = (
        json.loads((logs / "lenses" / "tiny-llama" / "provenance.json").read_text()) for logs in (fitted, sharded)
    )
    assert two["dataset"] == one["dataset"]
    assert two["fingerprint"] == one["fingerprint"]
    assert two["batching"]["world_size"] == 2
    (config,) = sharded.rglob("config.yaml")
    assert "placement: sharded" in config.read_text()


def test_a_sharded_fit_that_is_killed_is_resumed_sharded_and_by_one_process(
    tiny: dict[str, Path], fitted: Path, tmp_path: Path
) -> None:
    script, logs = tmp_path / "killed.py", tmp_path / "two"
    script.write_text(KILLED)
    killed = run(["fit", *fit_arguments(**tiny, logs=logs, **SHARDED)], script)
    assert killed.returncode != 0
    assert len(list(logs.rglob("last.ckpt"))) == 1, killed.stderr
    shutil.copytree(logs, tmp_path / "one")
    for name, placed in (("two", SHARDED), ("one", {})):
        done = run(["fit", *fit_arguments(**tiny, logs=tmp_path / name, **placed), "--ckpt_path=last"])
        assert (done.returncode, done.stderr) == (0, "")
        assert_close_lenses(fitted, tmp_path / name)


def test_torchrun_starts_a_sharded_validation_that_prints_the_numbers_of_one_process(
    tiny: dict[str, Path], fitted: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lens = ["--lens.source", str(fitted / "lenses" / "tiny-llama")]
    assert main([*accepted("validate", fit_arguments(**tiny, logs=tmp_path)), *lens]) == 0
    alone = capfd.readouterr().out.splitlines()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "logos_pl"]
    arguments = accepted("validate", fit_arguments(**tiny, logs=tmp_path, **SHARDED))
    done = subprocess.run([*launcher, *arguments, *lens], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert any("in 2 shards" in line for line in printed)
    tables = [[line for line in lines if line[:4].strip().isdigit()] for lines in (alone, printed)]
    assert len(tables[0]) == 5
    assert tables[1] == tables[0]


def numbers(path: Path) -> list[list[float]]:
    """The numeric cells of a CSV file."""
    with path.open(newline="") as file:
        return [
            [float(cell) for cell in row if cell.replace(".", "").lstrip("-").isdigit()] for row in csv.reader(file)
        ]


def test_sharded_gates_measure_what_one_process_measures(tiny: dict[str, Path], fitted: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite.yaml"
    facts = [f"- {{id: f{n}, prompt: sun {word} river, answer: bird}}" for n, word in enumerate(WORDS[:5])]
    suite.write_text("\n".join(["facts:", *facts]))
    options = ["--lens.source", str(fitted / "lenses" / "tiny-llama"), f"--data.suite={suite}"]
    found = []
    for name, placed in (("one", {}), ("two", SHARDED)):
        logs = tmp_path / name
        done = run([*accepted("test", fit_arguments(**tiny, logs=logs, **placed)), *options])
        assert done.returncode == 3, done.stderr
        found.append(numbers(next(logs.rglob("gates-rows.csv"))))
    assert len(found[0]) > 5
    for one, two in zip(*found, strict=True):
        assert two == pytest.approx(one, abs=1e-4)


def test_a_suite_of_fewer_facts_than_processes_is_one_sentence(
    tiny: dict[str, Path], fitted: Path, tmp_path: Path
) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text("facts:\n- {id: f, prompt: sun moon, answer: bird}\n")
    options = ["--lens.source", str(fitted / "lenses" / "tiny-llama"), f"--data.suite={suite}"]
    done = run([*accepted("test", fit_arguments(**tiny, logs=tmp_path, **SHARDED)), *options])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "One of 2 processes has nothing to read, but a sharded model needs all of them" in done.stderr


def test_what_both_refuse_is_one_sentence(tiny: dict[str, Path], tmp_path: Path) -> None:
    arguments = fit_arguments(**tiny, logs=tmp_path, **SHARDED | {"model.compile": "true"})
    done = run(["fit", *arguments])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "is sharded, and its blocks cannot be compiled" in done.stderr
