"""The tables of ``docs/families.md`` that come from trials, written and read."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.family_trials.trial import CAUSAL, EXACT, MULTIMODAL, NO, NOT_BUILT, REFUSED, Trial

PAGE = Path(__file__).parents[2] / "docs" / "families.md"
TESTED, TRIED = "<!-- tested: written by scripts/families.py -->", "<!-- tried: written by scripts/families.py -->"
HEADING = ("`model_type`", "class", "float32", "bfloat16", "attribution", "streamed", "remarks")
EXPERTS_HEADING = ("`model_type`", "float32", "bfloat16")
EXPERTS = "## Mixtures of experts in a batch"


def cells(trial: Trial) -> list[str]:
    """A trial as a row of the table."""
    return [f"`{trial.model_type}`", *trial[1:-1]]


def markdown_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("|" + "|".join(f" {cell} " if cell else " " for cell in line) + "|" for line in lines)


def counts(trials: Sequence[Trial]) -> str:
    """How many trials ended how, in a sentence."""
    verdicts = [(trial.float32, trial.bfloat16) for trial in trials]
    both = verdicts.count((EXACT, EXACT))
    refused = verdicts.count((REFUSED, REFUSED))
    absent = verdicts.count((NOT_BUILT, NOT_BUILT))
    one = len(trials) - both - refused - absent
    return (
        f"{len(trials)} tried: {both} exact in float32 and bfloat16, {one} in one of them, {refused} refused with the "
        f"reason, {absent} not built."
    )


def title(version: str) -> str:
    """Heading of the trials with a version of transformers."""
    return f"## Every causal language model of transformers {version}"


def tried_section(trials: Mapping[str, Trial], dense: Trial, version: str) -> str:
    """The part of the page that comes from trials.

    Args:
        trials: All of them, by architecture.
        dense: One without experts whose rows were compared like those with.
        version: That of transformers.
    """
    causal, multimodal = ([trials[name] for name in group] for group in (CAUSAL, MULTIMODAL))
    experts = [[f"`{dense.model_type}`, without experts", *_figures(dense)]]
    experts += [[f"`{trial.model_type}`", *_figures(trial)] for trial in (*causal, *multimodal) if trial.moved]
    return "\n".join([
        title(version), "", counts(causal), "", markdown_table(HEADING, [cells(trial) for trial in causal]), "",
        "## Some models that read images or sounds, too", "", counts(multimodal), "",
        markdown_table(HEADING, [cells(trial) for trial in multimodal]), "",
        EXPERTS, "", EXPERTS_TEXT, "", markdown_table(EXPERTS_HEADING, experts),
    ])  # fmt: skip


EXPERTS_TEXT = """\
Experts are chosen token by token, and none of these models limits how many tokens an expert takes: the batch changes a
token's rows only by rounding, and by more only where rounding changes the choice of an expert. Measured on one CPU: the
largest change of a token's row n between its sequence alone and in a batch of eight, relative to the row's norm."""


def _figures(trial: Trial) -> list[str]:
    return [f"{trial.moved[name]:.0e}" if name in trial.moved else NO for name in EXPERTS_HEADING[1:]]


def page_with(part: str, text: str) -> str:
    """The page with one generated part, which ends at the next heading or mark, replaced."""
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(part)
    rest = after[after.index(TRIED) :] if TRIED in after else ""
    return f"{before}{part}\n\n{text}\n" + (f"\n{rest}" if rest else "")


def read_trials() -> dict[str, Trial]:
    """The trials as the page has them, the figures of experts rounded."""
    text = PAGE.read_text(encoding="utf-8").split(TRIED)[1]
    tried, _, experts = text.partition(EXPERTS)
    moved = {
        name: {key: float(figure) for key, figure in zip(EXPERTS_HEADING[1:], figures, strict=True) if figure != NO}
        for name, *figures in _rows(experts)
    }
    fields = Trial._fields[:-1]
    rows = (dict(zip(fields, row, strict=True)) for row in _rows(tried))
    return {row["model_type"]: Trial(**row, moved=moved.get(row["model_type"], {})) for row in rows}


def _rows(text: str) -> list[list[str]]:
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line.startswith("| `")]
    return [[row[0].strip("`"), *row[1:]] for row in rows if row[0] != HEADING[0]]
