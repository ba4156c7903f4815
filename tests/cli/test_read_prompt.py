"""`logos-pl read` on the demo: the numbers of a sweep, the page, the picture, and what it says of the lens."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from logos_pl.api import load_model, sweep
from logos_pl.artifacts.tuned_lens import save_tuned_lens
from logos_pl.cli import read_prompt
from logos_pl.cli.entry import main as run
from logos_pl.cli.read import main
from logos_pl.lenses.translator import Translators
from tests.artifacts.lenses import make_provenance
from tests.cli.test_read import elsewhere
from tests.tiny import make_chat_model, make_model

__all__ = ["elsewhere"]

PROMPT = "The capital of Germany is"


def said(capsys: pytest.CaptureFixture[str], *args: str) -> list[str]:
    """The lines of a command that succeeds."""
    capsys.readouterr()
    assert main(args) == 0
    return capsys.readouterr().out.splitlines()


def table(lines: list[str]) -> list[list[str]]:
    """The cells of the table's lines; tokens of the demo hold no further spaces."""
    start = next(number for number, line in enumerate(lines) if line.lstrip().startswith("row"))
    rows = (re.findall(r"'[^']*'|\S+", line) for line in lines[start + 1 :])
    return [cells for cells in rows if cells[0].isdigit()]


def test_every_figure_is_the_one_that_predict_writes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    asked = ["--data.prompt", PROMPT, "--data.answer", "Berlin", "--sweep.out_dir", "out"]
    assert run(["predict", "--model.model_id", "demo", "--trainer.accelerator", "cpu", *asked]) == 0
    with Path("out/output-demo-pure-next-token.csv").open(encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    shown = table(said(capsys, PROMPT, "--answer", "Berlin", "--device", "cpu", "--top", "5"))
    assert len(shown) == len(written) == 9
    for cells, row in zip(shown, written, strict=True):
        tokens = [
            part
            for k in range(1, 6)
            for part in (repr(json.loads(row[f"top{k}_token"])), f"{float(row[f'top{k}_p']):.2f}")
        ]
        assert [cells[0], cells[1].rstrip("*"), *cells[2:]] == [row["layer"], row["answer_rank"], *tokens]


def test_rows_tokens_and_milestones_are_those_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, PROMPT, "--layers", "0,6-8,7", "--top", "2")
    assert lines[0] == (
        "demo: 8 blocks, on cpu in float32, read by the logit lens (no tuned lens in checkpoints/tuned_lenses/demo)"
    )
    assert lines[1] == f"'{PROMPT}'"
    assert [[cells[0], len(cells)] for cells in table(lines)] == [["0", 5], ["6", 5], ["7", 5], ["8", 5]]
    assert lines[-1].startswith("* norm: KL < 1, 0.5 bits from ")


def test_a_lens_that_was_fitted_here_is_used_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    lm = load_model("demo", device="cpu")
    translators = Translators(num_rows=lm.num_blocks - 1, d_model=lm.d_model, rank=2)
    save_tuned_lens(Path("checkpoints/tuned_lenses/demo"), translators, make_provenance(lm, translators), None)
    assert "read by the tuned lens, checkpoints/tuned_lenses/demo (not tested" in said(capsys, PROMPT)[0]
    assert "read by the logit lens" in said(capsys, PROMPT, "--lens", "norm")[0]


def test_rows_that_a_lens_has_no_map_for_are_named_and_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    width = load_model("demo", device="cpu").d_model
    content = {"J": {1: torch.eye(width), 4: torch.eye(width)}, "d_model": width, "provenance": {"target_layer": 7}}
    torch.save(content, "part.pt")
    lens = ["--lens", "imported:part.pt"]
    lines = said(capsys, PROMPT, *lens, "--layers", "0-5", "--html", "page.html", "--png", "tokens.png")
    assert "This lens has no map for row(s) 0, 1, 3, 4." in lines
    shown = table(lines)
    assert [cells[0] for cells in shown] == ["2", "5"]
    assert [cells[1:3] for cells in shown] == [cells[1:3] for cells in table(said(capsys, PROMPT, "--layers", "2,5"))]
    assert '"rows":[2,5,8]' in Path("page.html").read_text(encoding="utf-8")
    assert main([PROMPT, *lens, "--layers", "3"]) == 2
    assert "The lens has no map for row(s) 3: it reads 2, 5, 8." in capsys.readouterr().err


def test_page_and_picture_hold_the_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, PROMPT, "--html", "page.html", "--png", "tokens.png")
    assert lines[-2:] == ["page: page.html", "picture: tokens.png"]
    page = Path("page.html").read_text(encoding="utf-8")
    assert f'"text":"{PROMPT}"' in page
    assert '"lenses":["norm"]' in page
    assert Path("tokens.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in Path().iterdir()) == ["folder", "page.html", "tokens.png"]


def test_standard_input_is_a_prompt_without_its_last_line_feed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def given(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    given(f"{PROMPT}\n".encode())
    assert table(said(capsys, "-")) == table(said(capsys, PROMPT))
    given(b"a\r\n\r\n")
    assert said(capsys, "-")[1] == r"'a\r\n'"
    monkeypatch.setattr(read_prompt, "MAX_STDIN_BYTES", 10)
    for content, message in ((b"x" * 11, "more than 10 bytes"), (b"\xff", "not UTF-8"), (b"\0", "NUL"), (b"", "empty")):
        given(content)
        assert main(["-"]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--layers", "3-9"], "--layers 3-9: this model has rows 0 to 8."),
        (["--layers", "5-3"], "--layers 5-3 is empty: give the lower row first."),
        (["--chat"], "prompt 'prompt' cannot be rendered, as the model has no chat template: give plain text, or use"),
        (["--lens", "nowhere"], "There is no artifact at nowhere"),
        (["--device", "cuda:99"], "there is no device 'cuda:99'"),
        (["--model", "./nowhere"], "./nowhere is not a folder"),
    ],
)
def test_what_the_model_cannot_do_is_one_sentence(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([PROMPT, *args]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert list(Path().iterdir()) == [Path("folder")]


def test_with_a_chat_template_the_prompt_is_the_users_turn(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = make_model(tmp_path / "tiny")
    template = (
        "<s> {% for m in messages %}sun {{ m.content }} {% endfor %}{% if add_generation_prompt %}moon{% endif %}"
    )
    (folder / "chat_template.jinja").write_text(template)
    lines = said(capsys, "star", "--model", "./tiny", "--chat", "--device", "cpu")
    assert lines[1] == "'<s> sun star moon'"
    (records,) = sweep(load_model("./tiny", device="cpu"), ["sun star moon"]).prompts
    assert [cells[1] for cells in table(lines)] == [repr(row.top[0].token) for row in records.next_token["norm"]]


@pytest.mark.parametrize(("width", "locale"), [(60, "C"), (120, "C.UTF-8")])
def test_a_process_of_its_own_writes_what_its_terminal_can_show(width: int, locale: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-m", "logos_pl", "read", PROMPT, "--answer", "Berlin"],
        env=environment | {"LC_ALL": locale, "COLUMNS": str(width), "TERM": "dumb"},
        capture_output=True,
        check=True,
    )
    text = done.stdout.decode()
    assert "\x1b" not in text
    assert text.isascii() == (locale == "C")
    rows = [line for line in text.splitlines() if line[:3].strip().isdigit()]
    assert len(rows) == 9
    assert max(map(len, rows)) <= width


def test_a_system_message_comes_first_and_token_ids_are_read_as_they_are(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    make_chat_model(tmp_path / "tiny")
    chat = said(capsys, "star", "--model", "./tiny", "--chat", "--system", "stone", "--device", "cpu")
    assert chat[1] == "'<s> road stone . hill star . road'"
    ids = load_model("./tiny", device="cpu").tokenizer("road stone . hill star . road")["input_ids"]
    for written in (",".join(map(str, ids)), str(ids), " ".join(map(str, ids))):
        assert said(capsys, written, "--ids", "--model", "./tiny", "--device", "cpu")[1:] == chat[1:]
    assert main(["1,x", "--ids", "--model", "./tiny"]) == 2
    assert "'1,x' is not a list of token ids: give numbers, such as 1,2,3." in capsys.readouterr().err
