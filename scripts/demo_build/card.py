"""The demo's card: what it is, how it was made, what was measured."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

from demo_build.recall import Recall, together
from demo_build.training import Recipe

CARD = """\
---
license: mit
language: en
library_name: transformers
---
# The bundled demo of logos-pl

A small Llama-architecture language model with its tokenizer (`model/`) and the text it was trained on (`text/`), so that
every command of logos-pl runs offline on a laptop and shows something real: the model recalls facts, and the logit lens
finds them only in its middle and late rows.

Not a model to ask for facts: it has read nothing but sentences made from a few tables.

| | |
|---|---|
| architecture | LlamaForCausalLM, {num_blocks} blocks, d_model {d_model}, {num_heads} heads ({num_kv_heads} key-value heads), feed-forward {feedforward}, untied head |
| parameters | {num_parameters:,} in bf16 |
| tokenizer | byte-level BPE, {vocab_size} tokens, puts `<s>` in front, adds no end token |
| context | 512 tokens |
| text | {num_documents:,} different documents, {num_tokens:,} tokens, 3 parquet shards (columns text, id, language, token_count) |
| size | model {model_mb:.2f} MB, text {text_mb:.2f} MB |
| licence | MIT; the sentences are ours, facts are facts |

## How it was made

    python scripts/make_demo.py

{seconds:.0f} seconds on two cores, text, training and measurements together. Deterministic: the same machine and versions give the
same bytes (but for the seconds in this card). Trained from scratch for {steps} steps of {batch_tokens} tokens in float32 with AdamW
(peak rate {peak_lr}, cosine), in windows of {short_seq} tokens and, for the last {long_percent:.0f} % of the steps, of 512.
Facts: `scripts/demo_facts/countries.yaml` and `words.yaml`; sentences: `phrasings.yaml` and `stories.yaml` beside them.

## Loss

| | nats/token | bits/token |
|---|---|---|
| training (mean of the last 100 steps) | {train_nats:.3f} | {train_bits:.3f} |
| held-out documents (every 50th of the text) | {held_nats:.3f} | {held_bits:.3f} |

The text as shipped holds both kinds of documents.

## Recall on held-out phrasings

Share of prompts after which the answer's first token is at rank 1. The phrasings below occur nowhere in the text.

| relation | right | prompts | recall |
|---|---|---|---|
{relations}

Capitals, by phrasing (every one over all countries of the table):

| prompt | right | prompts | recall |
|---|---|---|---|
{capitals}

## Where the capital appears

Countries by the first row at which the capital is at rank 1 under the logit lens (final norm and head on the residual
after so many blocks; row 0 is the embedding). The second prompt is held out.

| prompt | {row_names} | never |
|---|{row_rules}---|
{first_rows}

## Files

| file | bytes | SHA-256 |
|---|---|---|
{files}
"""


@dataclass(frozen=True)
class Measured:
    """What the card reports; losses in nats per token."""

    train_loss_nats: float
    held_out_loss_nats: float
    recall: dict[str, dict[str, Recall]]
    first_rows: dict[str, list[int]]
    num_parameters: int
    num_documents: int
    num_tokens: int
    sha256: dict[str, tuple[int, str]]
    seconds: float


def sha256_of(folder: Path) -> dict[str, tuple[int, str]]:
    """Size in bytes and SHA-256 of the demo's model and text files, by path below `folder`."""
    paths = sorted([*folder.glob("model/*"), *folder.glob("text/data/*.parquet")])
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in paths
    }


def _recall_row(name: str, recall: Recall) -> str:
    return f"| {name} | {recall.right} | {recall.prompts} | {recall.share:.3f} |"


def _prompt_name(template: str) -> str:
    return "`" + template[: template.index(" {a}")].replace("{c}", "X").replace("{C}", "X") + "`"


def _first_rows_table(first_rows: dict[str, list[int]]) -> str:
    return "\n".join(
        f"| {_prompt_name(template)} | " + " | ".join(map(str, counts)) + " |" for template, counts in first_rows.items()
    )


def _megabytes(measured: Measured, start: str) -> float:
    return sum(size for name, (size, _) in measured.sha256.items() if name.startswith(start)) / 1e6


def write_card(folder: Path, recipe: Recipe, measured: Measured) -> None:
    """Write README.md into `folder`."""
    rows = range(recipe.num_blocks + 1)
    card = CARD.format(
        **vars(recipe),
        num_parameters=measured.num_parameters,
        num_documents=measured.num_documents,
        num_tokens=measured.num_tokens,
        model_mb=_megabytes(measured, "model/"),
        text_mb=_megabytes(measured, "text/"),
        seconds=measured.seconds,
        long_percent=100 * recipe.long_share,
        train_nats=measured.train_loss_nats,
        train_bits=measured.train_loss_nats / math.log(2),
        held_nats=measured.held_out_loss_nats,
        held_bits=measured.held_out_loss_nats / math.log(2),
        relations="\n".join(_recall_row(name, together(list(by.values()))) for name, by in measured.recall.items()),
        capitals="\n".join(_recall_row(_prompt_name(t), recall) for t, recall in measured.recall["capital"].items()),
        row_names=" | ".join(f"row {row}" for row in rows),
        row_rules="---|" * len(rows),
        first_rows=_first_rows_table(measured.first_rows),
        files="\n".join(f"| `{name}` | {size} | `{digest}` |" for name, (size, digest) in measured.sha256.items()),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
