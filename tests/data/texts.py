"""Texts of many lengths, written as shards of each kind, and the rule for held-out text written a second time."""

import gzip
import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def make_texts(shard: int, rows: int, longest: int = 60) -> list[str]:
    """Texts of many lengths, no two the same."""
    rng = random.Random(shard)
    return [f"{shard}.{row} " + "abcdefgh"[row % 8] * rng.randrange(longest) for row in range(rows)]


def expected_side(text: str, held_out_frac: float) -> str:
    """The rule for held-out text, written a second time."""
    u = int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) / 16**16
    return "val" if u < held_out_frac else "test" if u < 2 * held_out_frac else "train"


def write_parquet(path: Path, texts: Sequence[str | None], column: str = "text") -> None:
    table = pa.table({"id": list(range(len(texts))), column: pa.array(texts, type=pa.string())})
    pq.write_table(table, path, row_group_size=5)


def write_jsonl(path: Path, texts: Sequence[str | None], column: str = "text") -> None:
    lines = "".join(json.dumps({"id": row, column: text}) + "\n" for row, text in enumerate(texts))
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())


def folder_with(root: Path, **files: str | bytes) -> Path:
    """A dataset of one row, with further files; `__` in their names stands for a dot."""
    folder = root / "mine"
    folder.mkdir()
    write_jsonl(folder / "a.jsonl", ["x"])
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder
