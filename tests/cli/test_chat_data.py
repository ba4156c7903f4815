"""A chat model through the commands: a fit on conversations, its evaluation, and prompts that are conversations."""

import csv
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from logos_pl.cli.entry import main
from logos_pl.sweeps.schema_file import output_schema
from tests.cli.test_run import refused
from tests.tiny import accepted, fit_arguments, make_chat_model, make_conversations, make_model

PROMPTS = """\
facts:
- id: chat
  messages:
  - {role: user, content: sun moon}
  - {role: assistant, content: star}
  - {role: user, content: river}
  answer: stone
- id: begun
  messages: [{role: user, content: sun}, {role: assistant, content: moon star}]
- id: ids
  token_ids: [0, 17, 3, 2]
- id: text
  prompt: sun
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a chat model and a fit on conversations."""
    root = tmp_path_factory.mktemp("chat")
    model, chat = make_chat_model(root / "tiny"), make_conversations(root / "chat")
    short = {"data.format": "chat", "data.tokens": 2 * 8 * 32, "data.validate_every_steps": 2}
    assert main(["fit", *fit_arguments(model, chat, root, **short)]) == 0
    return root


def test_a_fit_on_conversations_is_recorded_and_evaluated_on_the_same(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads((done / "lenses" / "tiny" / "provenance.json").read_text())["dataset"]
    assert (found["repo_id"], found["format"], found["special_tokens"], found["added_tokens"]) == (
        "chat",
        "chat",
        "auto",
        [],
    )
    assert "each conversation rendered by the model's chat template" in found["sample_description"]
    again = fit_arguments(done / "tiny", done / "chat", done, **{"data.format": "chat"})
    assert main(accepted("validate", again)) == 0
    assert main([*accepted("test", again), "--intermediates.suite=off"]) == 3
    on = json.loads((done / "lenses" / "tiny" / "gates.json").read_text())["acceptance"]["evaluated_on"]
    assert (on["format"], on["special_tokens"]) == ("chat", "auto")
    capsys.readouterr()
    assert refused(accepted("validate", fit_arguments(done / "tiny", done / "chat", done)), capsys) == (
        2,
        "logos-pl: Shard 000.jsonl has no column 'text', only messages; name the one that holds the text with "
        "--data.text_column.",
    )


def test_prompts_may_be_conversations_and_token_ids(done: Path) -> None:
    (done / "prompts.yaml").write_text(PROMPTS)
    arguments = [f"--model.model_id={done / 'tiny'}", f"--data.prompts={done / 'prompts.yaml'}"]
    arguments += [f"--export.folder={done / 'lenses'}", f"--sweep.out_dir={done / 'out'}", "--trainer.accelerator=cpu"]
    assert main(["predict", *arguments, "--sweep.prism=off", "--sweep.jacobian=off"]) == 0
    document = json.loads((done / "out" / "output-tiny.json").read_text())
    Draft202012Validator(output_schema()).validate(document)
    chat, begun, ids, text = document["prompts"]
    words = [" hill", " sun", " moon", " .", " road", " star", " .", " hill", " river", " .", " road"]
    assert chat["tokens"] == ["<s>", *words]
    assert (chat["form"], chat["messages"][1]) == ("messages", {"role": "assistant", "content": "star"})
    assert {place["name"]: (place["first"], place["last"]) for place in chat["places"]} == {
        "turn1": (2, 3), "turn2": (6, 6), "turn3": (9, 9), "reply": (11, 11), "last": (11, 11)
    }  # fmt: skip
    assert begun["tokens"][-2:] == [" moon", " star"]
    assert [place["last"] for place in begun["places"] if place["name"] == "reply"] == [4]
    assert (ids["form"], ids["ids"], ids["messages"], ids["text"]) == (
        "token_ids",
        [0, 17, 3, 2],
        None,
        "<s> hill sun .",
    )
    assert (text["form"], text["special_tokens_added"], chat["special_tokens_added"]) == ("text", ["<s>"], [])
    with (done / "out" / "output-tiny-pure-next-token-tuned.csv").open(encoding="utf-8", newline="") as file:
        assert {row["prompt_id"] for row in csv.DictReader(file) if row["answer_rank"]} == {"chat"}
    page = (done / "out" / "output-tiny-page.html").read_text()
    assert '"messages":[["user","sun moon"],["assistant","star"],["user","river"]]' in page


def test_a_model_without_a_template_is_refused_before_the_fit(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = fit_arguments(make_model(tmp_path / "plain"), done / "chat", tmp_path, **{"data.format": "chat"})
    status, sentence = refused(["fit", *arguments], capsys)
    assert (status, "plain has no chat template to render conversations with" in sentence) == (2, True)
    assert not (tmp_path / "lightning_logs" / "plain").exists() or not list(
        (tmp_path / "lightning_logs/plain").iterdir()
    )
