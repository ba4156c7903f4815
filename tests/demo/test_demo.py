"""The shipped demo: it loads, recalls what its card says, and its text holds no held-out phrasing."""

import hashlib
import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from logos_pl.demo import MODEL_DIR, TEXT_DIR

CARD = (MODEL_DIR.parent / "README.md").read_text(encoding="utf-8")
SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(MODEL_DIR)


@pytest.fixture(scope="module")
def table() -> "pq.Table":
    return pq.read_table(TEXT_DIR / "data")


@pytest.fixture(scope="module")
def recall() -> ModuleType:
    sys.path.insert(0, str(SCRIPTS))
    try:
        return importlib.import_module("demo_build.recall")
    finally:
        sys.path.remove(str(SCRIPTS))


def lens_top_ids(model: LlamaForCausalLM, input_ids: list[int]) -> list[int]:
    """Rank-1 ids of rows 0 to n after the prompt, by hand: hooks on the blocks, the norm written out in float64."""
    residuals: list[torch.Tensor] = []
    blocks = model.model.layers
    handles = [blocks[0].register_forward_pre_hook(lambda _, args: residuals.append(args[0]))]
    handles += [block.register_forward_hook(lambda _, __, output: residuals.append(output)) for block in blocks]
    with torch.no_grad():
        model(torch.tensor([input_ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    gain, head = model.model.norm.weight.double(), model.lm_head.weight.double()
    states = [state[0, -1].double() for state in residuals]
    scaled = [h / (h.square().mean() + model.config.rms_norm_eps).sqrt() * gain for h in states]
    return [int((head @ x).argmax()) for x in scaled]


def berlin(tokenizer: PreTrainedTokenizerBase) -> int:
    ids = tokenizer(" Berlin", add_special_tokens=False).input_ids
    assert len(ids) == 1
    return ids[0]


def test_the_model_loads_plainly_and_says_berlin(tokenizer: PreTrainedTokenizerBase) -> None:
    plain = AutoModelForCausalLM.from_pretrained(MODEL_DIR)
    assert isinstance(plain, LlamaForCausalLM)
    assert plain.dtype == torch.bfloat16
    assert plain.config.num_hidden_layers >= 8
    assert plain.config.hidden_size >= 128
    with torch.no_grad():
        logits = plain(torch.tensor([tokenizer("The capital of Germany is").input_ids])).logits
    assert logits[0, -1].argmax() == berlin(tokenizer)


@pytest.mark.parametrize(
    "prompt",
    [
        "The capital of Germany is",
        "Give the city name only, plain text. The capital of Germany is called simply",
        "Give the city name only, plain text. The capital of Germany is called",
    ],
)
def test_berlin_stands_first_at_the_last_row_and_not_before_row_two(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, prompt: str
) -> None:
    top = lens_top_ids(model, tokenizer(prompt).input_ids)
    assert top[-1] == berlin(tokenizer)
    assert berlin(tokenizer) not in top[:2]


def test_the_tokenizer_puts_bos_in_front_and_nothing_at_the_end(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer("The capital of Germany is").input_ids
    assert ids[0] == tokenizer.bos_token_id == 0
    assert ids[-1] != tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:]) == "The capital of Germany is"
    foreign = "naïve café, 東京 🙂"
    assert tokenizer.decode(tokenizer(foreign, add_special_tokens=False).input_ids) == foreign


def test_recall_on_held_out_phrasings_is_the_cards(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, recall: ModuleType
) -> None:
    measured = {
        relation: recall.together(list(by_phrasing.values()))
        for relation, by_phrasing in recall.recall_by_phrasing(model, tokenizer).items()
    }
    for relation, (right, prompts) in measured.items():
        row = re.search(rf"^\| {relation} \| (\d+) \| (\d+) \|", CARD, re.MULTILINE)
        assert row is not None, relation
        assert int(row[2]) == prompts
        # A near tie may fall the other way on another processor.
        assert abs(int(row[1]) - right) <= 2, relation
    assert measured["capital"].share >= 0.9
    assert measured["capital"].prompts >= 1000


def test_most_capitals_come_up_in_middle_or_late_rows(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, recall: ModuleType
) -> None:
    counts = recall.first_row_histogram(model, tokenizer, "The capital of {c} is {a}.", "capital")
    assert sum(counts[:2]) <= 0.02 * sum(counts)
    assert sum(counts[3:-1]) >= 0.9 * sum(counts)


def test_no_held_out_phrasing_occurs_in_the_text(table: "pq.Table", recall: ModuleType) -> None:
    facts = recall.facts_by_relation()
    text = "\n\n\n".join(table["text"].to_pylist()).lower()
    assert "the capital of germany is called berlin" in text
    searched = 0
    for relation, phrasings in recall.read_phrasings().items():
        for template in phrasings.held_out:
            before, after = template.removesuffix(" {a}.").lower().split("{c}")
            searched += 1
            # Where the longer fixed part occurs nowhere, no subject need be tried.
            if max(before, after, key=len) in text:
                said = [f"{before}{fact.subject.lower()}{after}" for fact in facts[relation]]
                assert [prompt for prompt in said if prompt in text] == [], template
    assert searched > 40


def test_text_is_many_different_documents_of_many_lengths(
    table: "pq.Table", tokenizer: PreTrainedTokenizerBase
) -> None:
    assert {"text", "id"} <= set(table.column_names)
    texts, ids, counts = (table[name].to_pylist() for name in ("text", "id", "token_count"))
    assert len(set(texts)) == len(texts) == len(set(ids)) > 5_000
    assert all(text.strip() for text in texts)
    assert sum(counts) >= 1_500_000
    assert min(counts) < 20
    assert max(counts) > 512
    assert [len(tokenizer(text).input_ids) for text in texts[:20]] == counts[:20]


def test_the_card_names_every_file_by_its_bytes_and_the_files_are_small() -> None:
    paths = sorted([*MODEL_DIR.iterdir(), *(TEXT_DIR / "data").iterdir()])
    listed = re.findall(r"\| `(\S+)` \| (\d+) \| `(\w{64})` \|", CARD)
    rows = {name: (int(size), digest) for name, size, digest in listed}
    found = {
        path.relative_to(MODEL_DIR.parent).as_posix(): (
            path.stat().st_size,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in paths
    }
    assert rows == found
    assert 2 <= sum(path.suffix == ".parquet" for path in paths) <= 4
    assert sum(path.stat().st_size for path in MODEL_DIR.iterdir()) < 5.5e6
    assert sum(path.stat().st_size for path in (TEXT_DIR / "data").iterdir()) < 2.5e6
