import os
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from pandas._libs.parsers import STR_NA_VALUES

from logos_pl.data.prompt_types import Message, Prompt
from logos_pl.data.prompts import batches, tokenize_prompt
from logos_pl.data.suites import FACTS, PROBE, Control, Fact, PromptContent, prompts_of, read_suite
from logos_pl.data.yaml_items import READ_AS_MISSING
from logos_pl.demo import TEXT_DIR
from logos_pl.errors import InputError
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.tokenizer import load_tokenizer

CAPITALS = Path(__file__).parents[2] / "examples" / "prompts" / "capitals.yaml"

WHOLE = """\
facts:
- id: pos
  relation: capital
  fact: Germany → Berlin
  prompt: Germany has simply
  answer: Berlin
  no_filler: Germany has
  control: {id: ctl, fact: France → Paris, prompt: France has simply, answer: Paris}

- Once upon a time
- prompt: Two and two
  answer: 4
"""


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "mine.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_every_field_is_read_and_what_is_missing_has_its_default(tmp_path: Path) -> None:
    control = Control("ctl", PromptContent("France has simply"), "Paris", "France → Paris")
    assert read_suite(written(tmp_path, WHOLE)) == [
        Fact(
            "pos",
            PromptContent("Germany has simply"),
            "Berlin",
            "capital",
            "Germany → Berlin",
            PromptContent("Germany has"),
            control,
            2,
        ),
        Fact("p2", PromptContent("Once upon a time"), None, "", "", None, None, 10),
        Fact("p3", PromptContent("Two and two"), "4", "", "", None, None, 11),
    ]


CHAT = """\
facts:
- id: chat
  messages:
  - {role: system, content: ''}
  - {role: user, content: no}
  - role: assistant
    content: "Say "
  answer: b
  no_filler: [{role: user, content: yes}]
  control: {token_ids: [3, 0], answer: c}
- token_ids: [0, 010]
"""


def test_an_item_may_be_a_conversation_or_token_ids(tmp_path: Path) -> None:
    turns = (Message("system", ""), Message("user", "no"), Message("assistant", "Say "))
    assert prompts_of(read_suite(written(tmp_path, CHAT))) == [
        Prompt("chat", "orig", "", "b", messages=turns),
        Prompt("chat", "no_filler", "", "b", messages=(Message("user", "yes"),)),
        Prompt("chat-ctl", "orig", "", "c", "b", token_ids=(3, 0)),
        Prompt("p2", "orig", "", token_ids=(0, 10)),
    ]


def test_a_fact_asks_its_prompt_then_the_one_without_filler_then_its_control(tmp_path: Path) -> None:
    assert prompts_of(read_suite(written(tmp_path, WHOLE)))[:4] == [
        Prompt("pos", "orig", "Germany has simply", "Berlin", None, "Germany → Berlin", "capital"),
        Prompt("pos", "no_filler", "Germany has", "Berlin", None, "Germany → Berlin", "capital"),
        Prompt("ctl", "orig", "France has simply", "Paris", "Berlin", "France → Paris", "capital"),
        Prompt("p2", "orig", "Once upon a time"),
    ]


def test_a_control_is_called_after_its_fact(tmp_path: Path) -> None:
    (fact,) = read_suite(written(tmp_path, "facts: [{id: f, prompt: A, answer: b, control: {prompt: C, answer: d}}]"))

    assert fact.control == Control("f-ctl", PromptContent("C"), "d", "")


@pytest.mark.parametrize(
    "scalar", ["4", "no", "Yes", "1.50", "2020-01-01", "0x1F", "1_000", "12:30:45", "true", "=", "'~'"]
)
def test_a_text_is_taken_as_it_is_written(scalar: str, tmp_path: Path) -> None:
    (fact,) = read_suite(written(tmp_path, f"facts:\n- prompt: Say\n  answer: {scalar}\n"))

    assert fact.answer == scalar.strip("'")


@pytest.mark.parametrize("nothing", ["", "~", "null"])
def test_null_is_a_field_that_is_not_given(nothing: str, tmp_path: Path) -> None:
    text = f"facts:\n- id: {nothing}\n  prompt: Say\n  answer: {nothing}\n  control: {nothing}\n"

    assert read_suite(written(tmp_path, text)) == [Fact("p1", PromptContent("Say"), None, "", "", None, None, 2)]


@pytest.mark.parametrize("text", ["\ufefffacts: [Say]", "facts:\r\n- Say\r\n", "facts: &list [Say]"])
def test_a_byte_order_mark_and_line_ends_do_not_matter(text: str, tmp_path: Path) -> None:
    assert [fact.content.text for fact in read_suite(str(written(tmp_path, text)))] == ["Say"]


def bomb(levels: int) -> str:
    """Lines of nine aliases each to the line before."""
    names = "abcdefghijklm"
    return "".join(f"{names[k]}: &{names[k]} [{','.join(['*' + names[k - 1]] * 9)}]\n" for k in range(1, levels))


def test_white_space_within_a_prompt_is_kept(tmp_path: Path) -> None:
    (fact,) = read_suite(written(tmp_path, 'facts: ["Say \\n"]'))

    assert fact.content.text == "Say \n"


@pytest.mark.parametrize(
    ("text", "line", "wanted"),
    [
        ("", 1, "the file is empty"),
        ("# nothing\n", 1, "the file is empty"),
        ("- a\n", 1, "there is no `facts:`"),
        ("a", 1, "there is no `facts:`"),
        ("facts:\n", 1, "`facts` is not a list"),
        ("facts: []", 1, "`facts` is not a list"),
        ("\nfacts:\n  prompt: a\n", 3, "`facts` is not a list"),
        ("\nfact:\n- a\n", 2, "no field `fact`; did you mean `facts`?"),
        ("facts:\n- prompt: a\n  anwser: b\n", 3, "no field `anwser`; did you mean `answer`?"),
        (
            "facts:\n- Question: who is\n",
            2,
            "no field `Question`; there are `id`, .* with a colon needs quotes",
        ),
        ("facts:\n- {[a]: b}\n", 2, "no field ``"),
        ("facts:\n- a\n- answer: b\n", 3, "the field `prompt` is missing"),
        ("facts:\n- a\n-\n", 3, "the fields `id`, `prompt`"),
        ("facts:\n- [a]\n", 2, "the fields `id`, `prompt`"),
        ("facts:\n- prompt: [a]\n", 2, "`prompt` is not text"),
        ("facts:\n- prompt: a\n  answer: {b: c}\n", 3, "`answer` is not text"),
        ("facts:\n- ' '\n", 2, "`prompt` is empty"),
        ("facts:\n- prompt: a\n  answer: ''\n", 3, "`answer` is empty"),
        ("facts:\n- prompt: a\n  no_filler: 'a '\n", 3, "`no_filler` equals the prompt"),
        (
            "facts:\n- prompt: a\n  control: {prompt: b, answer: c}\n",
            3,
            "a control is compared with the `answer` of its fact",
        ),
        ("facts:\n- prompt: a\n  answer: b\n  control:\n    prompt: c\n", 5, "the field `answer` is missing"),
        ("facts:\n- prompt: a\n  answer: b\n  control: {answer: c}\n", 4, "the field `prompt` is missing"),
        ("facts:\n- prompt: a\n  answer: b\n  control: {prompt: c, answer: b}\n", 4, "has the same answer as its fact"),
        ("facts:\n- prompt: a\n  answer: b\n  control: {prompt: c, relation: d}\n", 4, "no field `relation`"),
        (
            "facts:\n- prompt: a\n  answer: b\n  control: c\n",
            4,
            "the fields `id`, `prompt`, `messages`, `token_ids`, `answer`, `fact`",
        ),
        ("facts:\n- {id: a, prompt: a}\n- {id: a, prompt: b}\n", 3, "the id 'a' is already on line 2"),
        ("facts:\n- a\n- {id: p1, prompt: b}\n", 3, "the id 'p1' is already on line 2"),
        (
            "facts:\n- {id: a-ctl, prompt: a}\n- {id: a, prompt: b, answer: c,\n  control: {prompt: d, answer: e}}\n",
            4,
            "the id 'a-ctl' is already on line 2",
        ),
        ("facts:\n- a\n- {prompt: 'a ', answer: b}\n", 3, "the prompt 'a' is already on line 2"),
        ("facts:\n- {prompt: a,\n  token_ids: [1]}\n", 3, "there is already a `prompt`; give either"),
        ("facts:\n- token_ids: 4\n", 2, "`token_ids` is not a list of token ids, such as [1, 2, 3]"),
        ("facts:\n- token_ids: []\n", 2, "`token_ids` is not a list of token ids"),
        ("facts:\n- token_ids: [1,\n  -2]\n", 3, "`token_ids` holds something other than token ids"),
        ("facts:\n- token_ids: [0x1F]\n", 2, "`token_ids` holds something other than token ids"),
        ("facts:\n- token_ids: [1, [2]]\n", 2, "`token_ids` holds something other than token ids"),
        ("facts:\n- token_ids: [1]\n- token_ids: [1]\n", 3, "the prompt '[1]' is already on line 2"),
        ("facts:\n- messages: Hello\n", 2, "`messages` is not a list of messages, each with `role` and `content`"),
        ("facts:\n- messages: [Hello]\n", 2, "expected the fields `role`, `content`"),
        ("facts:\n- messages: [{role: user}]\n", 2, "the field `content` is missing"),
        ("facts:\n- messages: [{content: a}]\n", 2, "the field `role` is missing"),
        ("facts:\n- messages: [{role: user, content: ''}]\n", 2, "all messages of `messages` are empty"),
        ("facts:\n- messages: [{role: user, content: [a]}]\n", 2, "`content` is not text"),
        ("facts:\n- messages: [{role: user, text: a}]\n", 2, "no field `text`"),
        ("facts:\n- messages: [{role: human, content: a}]\n", 2, "no role `human`; choose system, developer, user"),
        ("facts:\n- {token_ids: [1], no_filler: [1]}\n", 2, "`no_filler` equals the prompt"),
        ("facts:\n- {token_ids: [1], no_filler: a}\n", 2, "`no_filler` is not a list of token ids"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str | bytes, line: int, wanted: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)

    with pytest.raises(InputError) as caught:
        read_suite(path)

    message = str(caught.value)
    assert message.startswith(f"{path}, line {line}: ")
    assert re.search(re.sub(r"([?\[\]])", r"\\\1", wanted), message)
    assert message.endswith((".", "?"))
    assert "\n" not in message


@pytest.mark.parametrize(
    "bad", ["1", "_a", "a b", "a/b", "ä", "a&", "NA", "None", "nan", "'null'", "'NULL'", "NaN", "a" * 101]
)
def test_an_id_that_a_table_could_misread_is_refused(bad: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 3: `id` cannot be "):
        read_suite(written(tmp_path, f"facts:\n- prompt: a\n  id: {bad}\n"))


def test_what_pandas_reads_as_missing_is_no_id() -> None:
    assert {word for word in STR_NA_VALUES if re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", word)} == READ_AS_MISSING


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("facts: [\n- a", r"is not valid YAML \(.* in line 2\): fix it"),
        ("facts:\n- a\n---\nfacts:\n- b\n", r"is not valid YAML \(.* in line 3\): fix it"),
        ("facts:\n- é\n- a\x00\n", r"holds the character U\+0000 in line 3, which YAML does not allow: remove it"),
        (b"facts:\n- a\n- \xe9\n", r"is not UTF-8 text \(.* in line 3\): save it as UTF-8"),
        ("[" * 100_000, "is nested deeper than 64 levels in line 1"),
        ("facts: [a]\nfacts: [b]\n", "has the key 'facts' twice, in lines 1 and 2"),
        ("facts:\n- prompt: a\n  prompt: b\n", "has the key 'prompt' twice, in lines 2 and 3"),
        ("facts:\n" + "- a\n" * 2**21, "has 8,388,615 bytes or more, and at most 8,388,608 are read"),
        ("a: &a [x,x,x,x,x,x,x,x,x]\n" + bomb(9), "has more than 200,000 values with its aliases"),
    ],
    ids=["bracket", "documents", "nul", "latin-1", "deep", "facts twice", "prompt twice", "large", "aliases"],
)
def test_a_file_that_is_no_bounded_yaml_is_refused(text: str | bytes, wanted: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)

    with pytest.raises(InputError, match=f"^{re.escape(str(path))} {wanted}"):
        read_suite(path)


@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "endless link"])
def test_a_file_of_prompts_that_is_not_regular_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/null" if kind == "device" else "/dev/zero")

    with pytest.raises(InputError, match=f"^{re.escape(str(path))} is not a regular file"):
        read_suite(path)


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(str(tmp_path / 'none.yaml'))} cannot be read "):
        read_suite(tmp_path / "none.yaml")


def test_the_probe_asks_for_berlin_with_and_without_filler_and_for_paris() -> None:
    with_filler, without, control = prompts_of(read_suite(PROBE))

    assert (with_filler.prompt_id, without.prompt_id, control.prompt_id) == ("pos", "pos", "ctl")
    assert (with_filler.variant, without.variant, control.variant) == ("orig", "no_filler", "orig")
    assert with_filler.text.replace(" simply", "") == without.text != with_filler.text
    assert with_filler.text.replace("Germany", "France") == control.text
    assert [prompt.answer for prompt in (with_filler, without, control)] == ["Berlin", "Berlin", "Paris"]
    assert (with_filler.contrast, control.contrast) == (None, "Berlin")


def test_the_gates_suite_is_large_and_varied() -> None:
    facts = read_suite(FACTS)
    relations = [fact.relation for fact in facts]

    assert len(facts) >= 72
    assert len(set(relations)) >= 8
    assert min(relations.count(relation) for relation in relations) >= 4
    assert all(fact.answer and fact.relation and fact.label.endswith(f" → {fact.answer}") for fact in facts)
    assert sum(fact.no_filler is not None or fact.control is not None for fact in facts) >= len(facts) // 4
    assert all(" " not in str(fact.answer) for fact in facts)


def test_a_control_of_the_gates_suite_is_another_of_its_facts() -> None:
    facts = read_suite(FACTS)
    known = {(fact.relation, fact.content.text): (fact.answer, fact.label) for fact in facts}

    for fact in facts:
        if fact.control is not None:
            assert known[fact.relation, fact.control.content.text] == (fact.control.answer, fact.control.label)


def test_without_filler_only_the_filler_is_missing() -> None:
    for fact in [*read_suite(PROBE), *read_suite(FACTS)]:
        if fact.no_filler is not None:
            assert fact.content.text.replace(" simply", "") == fact.no_filler.text


@pytest.mark.parametrize("path", [PROBE, FACTS, CAPITALS], ids=lambda path: path.stem)
def test_no_prompt_of_a_suite_stands_in_the_demos_text(path: Path) -> None:
    shards = [pq.read_table(shard, columns=["text"]) for shard in sorted(TEXT_DIR.rglob("*.parquet"))]
    documents = "\n".join(text for shard in shards for text in shard["text"].to_pylist()).lower()

    assert [text for fact in read_suite(path) if (text := fact.content.text).lower() in documents] == []


@pytest.mark.parametrize("path", [PROBE, FACTS, CAPITALS], ids=lambda path: path.stem)
def test_every_answer_is_resolved_for_the_demo(path: Path) -> None:
    tokenizer = load_tokenizer("demo")
    prompts = prompts_of(read_suite(path))

    assert {tokenize_prompt(tokenizer, prompt, None).answer_tokens.form for prompt in prompts} == {"with_space"}


@pytest.mark.parametrize("model", ["tiny-llama", "stories260K"])
@pytest.mark.parametrize("path", [PROBE, FACTS, CAPITALS], ids=lambda path: path.stem)
def test_every_answer_is_resolved_for_the_reference_models(path: Path, model: str, shared: Path) -> None:
    tokenizer = load_tokenizer(str(shared / "models" / model))
    prompts = prompts_of(read_suite(path))

    assert {tokenize_prompt(tokenizer, prompt, None).answer_tokens.form for prompt in prompts} == {"with_space"}


def final_ranks(lm: FrozenLM, path: Path) -> list[int]:
    """The model's own rank of every answer, from its logits in float64."""
    assert lm.tokenizer is not None
    ranks = []
    for batch in batches(
        [tokenize_prompt(lm.tokenizer, prompt, None) for prompt in prompts_of(read_suite(path))], 1024
    ):
        logits = lm.logits(batch.input_ids, batch.attention_mask).double()
        for row, tokenized in zip(logits, batch.prompts, strict=True):
            last = row[len(tokenized.ids) - 1]
            ranks.append(1 + int((last > last[tokenized.answer_tokens.ids[0]]).sum()))
    return ranks


@pytest.fixture(scope="module")
def demo() -> FrozenLM:
    return FrozenLM.load("demo", device=torch.device("cpu"))


def test_the_demo_knows_the_probe_and_nearly_all_capitals_of_the_example(demo: FrozenLM) -> None:
    assert final_ranks(demo, PROBE) == [1, 1, 1]
    ranks = final_ranks(demo, CAPITALS)
    assert len(ranks) >= 24
    assert sum(rank == 1 for rank in ranks) >= 0.95 * len(ranks)


def test_the_demo_knows_most_of_the_gates_suite(demo: FrozenLM) -> None:
    ranks = final_ranks(demo, FACTS)

    assert sum(rank == 1 for rank in ranks) >= 0.8 * len(ranks)


def test_the_reference_model_knows_the_probe(shared: Path) -> None:
    assert final_ranks(FrozenLM.load(str(shared / "models" / "tiny-llama")), PROBE) == [1, 1, 1]
