"""The table of families in the documentation, held to what the tests of `tests/lm` run on each."""

from pathlib import Path

from tests.lm.families import FAMILIES, NAMES
from tests.lm.test_branches import WITHOUT_BRANCHES
from tests.lm.test_cached import WITHOUT_CACHE

PAGE = Path(__file__).parents[2] / "docs" / "families.md"


def table() -> list[str]:
    """One line per tiny model; the first columns hold for all, as the tests run on every one of them."""
    lines = [
        "| tiny model | `model_type` | norm | head | float32 | bfloat16 "
        "| attribution | `chat` cache | streamed | sharded |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in NAMES:
        family = FAMILIES[name]
        parts = {
            "bias": family.head_bias,
            f"× {family.multiplier:g}": family.multiplier != 1,
            f"÷ {family.divisor:g}": family.divisor != 1,
            f"soft-cap {family.softcap}": family.softcap is not None,
            "projection": family.project,
        }
        head = ", ".join(part for part, there in parts.items() if there) or "plain"
        attribution = "–" if name in WITHOUT_BRANCHES else "exact"
        cache = "–" if name in WITHOUT_CACHE else "yes"
        cells = [name, family.model_type, family.norm, head, "exact", "exact", attribution, cache, "same bits"]
        lines.append("| " + " | ".join([*cells, "same bits"]) + " |")
    return lines


def test_the_table_lists_every_family_with_what_its_tests_show() -> None:
    shown = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert shown == table()
