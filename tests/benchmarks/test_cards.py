from pathlib import Path

import pytest

from benchmarks.cards import main

DOCS = Path(__file__).parents[2] / "docs" / "memory.md"


def test_the_tables_of_the_documentation_are_what_the_arithmetic_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0
    _, example, _, cards, _, streamed, _, sharded = capsys.readouterr().out.rstrip().split("\n\n")
    written = DOCS.read_text(encoding="utf-8")
    for table in (example, cards, streamed, sharded):
        assert table in written, "run `python -m benchmarks.cards` and renew docs/memory.md"
    assert "| Meta-Llama-3-8B             |               – |  16 × 2, 64 MiB |" in cards
