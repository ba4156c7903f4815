"""The index of benchmarks in docs/benchmarks.md against the folder."""

import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_every_benchmark_that_can_be_run_is_in_the_index_and_nothing_else_is() -> None:
    runnable = {
        path.stem for path in (PROJECT / "benchmarks").glob("*.py") if '__name__ == "__main__"' in path.read_text()
    }
    index = (PROJECT / "docs" / "benchmarks.md").read_text(encoding="utf-8").partition("\n## ")[0]
    assert set(re.findall(r"`(?:python -m )?benchmarks\.([a-z_]+)", index)) == runnable
