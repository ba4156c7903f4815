import runpy
import sys
from pathlib import Path

import pytest

from logos_pl import load_model
from logos_pl.artifacts.tuned_lens import save_tuned_lens
from logos_pl.errors import InputError
from logos_pl.lenses.translator import Translators
from tests.artifacts.lenses import make_provenance

SCRIPT = Path(__file__).parents[2] / "examples" / "read_a_prompt.py"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_the_example_prints_both_lenses_at_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = load_model("demo")  # as the script does, on whatever device that is
    untrained = Translators(lm.num_blocks - 1, lm.d_model, 2)  # the identity: both lenses must say the same
    save_tuned_lens(tmp_path / "demo", untrained, make_provenance(lm, untrained))
    run(monkeypatch, str(tmp_path / "demo"))
    title, header, *rows = capsys.readouterr().out.splitlines()
    assert title == "'The capital of Germany is' -> ' Berlin'"
    assert header.split() == ["row", "norm", "top-1", "rank", "tuned", "top-1", "rank"]
    assert len(rows) == lm.num_blocks + 1
    tokenizer = lm.tokenizer
    assert tokenizer is not None
    logits = lm.logits(tokenizer("The capital of Germany is", return_tensors="pt")["input_ids"])[0, -1].cpu()
    answer = tokenizer(" Berlin", add_special_tokens=False)["input_ids"][0]
    likeliest = tokenizer.decode([int(logits.argmax())])
    assert rows[-1].split() == f"{lm.num_blocks} {likeliest!r} {1 + int((logits > logits[answer]).sum())}".split() + (
        rows[-1][3 + (len(rows[-1]) - 3) // 2 :].split()
    )
    for row in rows:
        half = (len(row) - 3) // 2
        assert row[3 : 3 + half] == row[3 + half :]


def test_without_a_fitted_lens_the_example_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no artifact at checkpoints/tuned_lenses/demo"):
        run(monkeypatch)
