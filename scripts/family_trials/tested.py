"""The table of the families that the tests run on, from the tests' own lists."""

from scripts.family_trials.table import markdown_table
from tests.lm.families import FAMILIES, NAMES
from tests.lm.test_branches import WITHOUT_BRANCHES
from tests.lm.test_cached import WITHOUT_CACHE

HEADING = (
    "tiny model", "`model_type`", "blocks", "norm", "head", "float32", "bfloat16", "attribution", "`chat` cache",
    "streamed", "sharded",
)  # fmt: skip


def families_of_tests() -> str:
    """One line per tiny model; what holds for all is not asked, as the tests run on every one of them."""
    rows = []
    for name in NAMES:
        family = FAMILIES[name]
        parts = {
            "bias": family.head_bias,
            f"× {family.multiplier:g}": family.multiplier != 1,
            f"÷ {family.divisor:g}": family.divisor != 1,
            f"its input ÷ {family.head_divisor:g}": family.head_divisor != 1,
            f"soft-cap {family.softcap}": family.softcap is not None,
            "projection": family.project,
        }
        head = ", ".join(part for part, there in parts.items() if there) or "plain"
        attribution = "–" if name in WITHOUT_BRANCHES else "exact"
        cache = "–" if name in WITHOUT_CACHE else "yes"
        rows.append(
            [name, family.model_type, family.kind, family.norm, head, "exact", "exact", attribution, cache]
            + ["same bits"] * 2
        )
    return markdown_table(HEADING, rows)
