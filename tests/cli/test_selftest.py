from pathlib import Path
from typing import Any

import pytest
import torch

from logos_pl.cli.entry import main
from logos_pl.cli.selftest import Check, checks
from logos_pl.data.prompt_types import Prompt
from logos_pl.data.prompts import batches, tokenize_prompt
from logos_pl.lenses.head import Head, RowNorms
from logos_pl.lm.frozen import FrozenLM
from logos_pl.sweeps.reader import PromptReader
from tests.tiny import make_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny-llama")


def checked(folder: Path, dtype: str = "float32") -> dict[str, Check]:
    lm = FrozenLM.load(str(folder), dtype=dtype)
    texts = ["sun moon river", "snow", "light dark song road hill sea leaf"]
    (batch,) = batches([tokenize_prompt(lm.tokenizer, Prompt(text, "orig", text), None) for text in texts], 10_000)
    return {check.name: check for check in checks(lm, batch)}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_check_passes_on_a_sound_model(folder: Path, dtype: str) -> None:
    assert all(check.passed for check in checked(folder, dtype).values())


def failing(done: dict[str, Check]) -> set[str]:
    return {name.split(" ")[0] for name, check in done.items() if not check.passed}


def test_a_wrong_epsilon_is_caught_by_the_norms_check(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = RowNorms.__init__

    def without_eps(self: RowNorms, norms: list[Any]) -> None:
        plain(self, norms)
        self.eps = self.eps * 0 + 1e-2

    monkeypatch.setattr(RowNorms, "__init__", without_eps)
    assert "the" in failing(checked(folder)), "the fp32 norm …"


def test_a_wrong_unembedding_is_caught_at_row_n(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Head.__init__

    def off(self: Head, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        self.unembedding = self.unembedding._replace(scale=1.1)

    monkeypatch.setattr(Head, "__init__", off)
    assert "row" in failing(checked(folder))


def test_a_sweep_that_changes_from_run_to_run_is_caught(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, generator = PromptReader.read, torch.Generator().manual_seed(0)

    def shaken(self: PromptReader, *args: Any, **kwargs: Any) -> Any:
        reading = plain(self, *args, **kwargs)
        noise = torch.rand((), generator=generator) * 1e-3
        reading.lenses["norm"].kl_to_final_bits[1:-1] += noise
        return reading

    monkeypatch.setattr(PromptReader, "read", shaken)
    assert {"two", "padding"} <= failing(checked(folder))


def test_the_command_says_pass_per_check_and_writes_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["selftest", f"--model.model_id={folder}", "--data.prompt=sun moon", "--trainer.accelerator=cpu"]

    assert main(command) == 0
    said = capsys.readouterr().out
    assert said.count("pass\n") + said.count("pass ") >= 6
    assert "FAIL" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_failed_check_ends_with_status_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("logos_pl.cli.selftest.NORM_BOUND", -1.0)

    assert main(["selftest", f"--model.model_id={folder}", "--data.prompt=sun", "--trainer.accelerator=cpu"]) == 1
    said = capsys.readouterr()
    assert "FAIL" in said.out
    assert "1 of 6 checks failed on tiny-llama" in said.err
