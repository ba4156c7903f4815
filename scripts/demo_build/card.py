"""The demo's card: what it is, how it was made, what was measured; its text is in scripts/demo_facts/card.md."""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

from demo_build.facts import TABLES
from demo_build.recall import Recall, together
from demo_build.training import Recipe


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
    cpu_seconds: float


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
        f"| {_prompt_name(template)} | " + " | ".join(map(str, counts)) + " |"
        for template, counts in first_rows.items()
    )


def _megabytes(measured: Measured, start: str) -> float:
    return sum(size for name, (size, _) in measured.sha256.items() if name.startswith(start)) / 1e6


def write_card(folder: Path, recipe: Recipe, measured: Measured) -> None:
    """Write README.md into `folder`."""
    rows = range(recipe.num_blocks + 1)
    template = (TABLES / "card.md").read_text(encoding="utf-8")
    card = template.format(
        **vars(recipe),
        num_parameters=measured.num_parameters,
        num_documents=measured.num_documents,
        num_tokens=measured.num_tokens,
        model_mb=_megabytes(measured, "model/"),
        text_mb=_megabytes(measured, "text/"),
        seconds=measured.seconds,
        cpu_seconds=measured.cpu_seconds,
        half_cpu_minutes=measured.cpu_seconds / 2 / 60,
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
