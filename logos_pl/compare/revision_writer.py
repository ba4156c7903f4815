"""Comparison over the revisions of a model: collects the results of each; table, JSON, CSV and plot at the end."""

import csv
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.markup import escape
from rich.table import Table

from logos_pl.artifacts.fingerprint import same_model
from logos_pl.artifacts.provenance_schema import Fingerprint
from logos_pl.compare.report import SCHEMA_VERSION
from logos_pl.compare.revision_figure import SHOWN, revisions_figure
from logos_pl.compare.revision_module import RevisionModule
from logos_pl.compare.revisions import (
    QUANTITIES,
    Model,
    Revision,
    measure_revision,
    milestone_lines,
    steps_of,
    to_plain,
)
from logos_pl.data.evaluation_text import FactText
from logos_pl.errors import InputError
from logos_pl.functional.bootstrap import CONFIDENCE_FRAC, RESAMPLES, SEED
from logos_pl.io.fitting import print_table
from logos_pl.io.result_folder import result_folder, write_results
from logos_pl.io.terminal import say
from logos_pl.modules.pictures import png

FILES = ("compare.csv", "compare-milestones.csv", "compare.png", "compare.json")
OPTION = "--compare.out_dir"


class Series:
    """The revisions of a comparison.

    Attributes:
        root: Root folder of the logs.
        out_dir: Folder given by the user.
        lens: Name of the lens, as in tables and plots.
        revisions: Those that were read, in order.
        text: The text and facts they were read on.
    """

    def __init__(self) -> None:
        self.root, self.lens = Path("lightning_logs"), ""
        self.revisions: list[Revision] = []
        self.text: dict[str, Any] = {}
        self.out_dir: str | None = None

    def add(self, revision: Revision) -> None:
        """Add a revision.

        Raises:
            InputError: It has another number of blocks than the first.
        """
        first = self.revisions[0] if self.revisions else revision
        if first.num_blocks != revision.num_blocks:
            raise InputError(
                f"{revision.name} has {revision.num_blocks} blocks and {first.name} {first.num_blocks}: compare "
                "revisions of one model."
            )
        self.revisions.append(revision)

    def finish(self, seen: Mapping[str, Fingerprint]) -> None:
        """Print the table and write all files, if two revisions or more were read.

        Args:
            seen: Fingerprints of the revisions, by name.

        Raises:
            InputError: The folder holds results.
            RunError: It cannot be written.
        """
        if len(self.revisions) < 2:
            return
        names = [of.name for of in self.revisions]
        steps, first = steps_of(names), self.revisions[0]
        say(
            f"\n{self.lens} over {len(names)} revisions; means over {first.num_positions:,} positions of "
            f"{first.num_sequences} sequences of held-out text"
        )
        print_table(revision_table(self.revisions, steps))
        say("top-1, rank 1: mean row for the model's own top-1 token; answers: for the answers of facts, if reached")
        if steps is None:
            say("Not every name has a training step of its own, such as step1000: revisions are in the order given.")
        title = f"{first.model_id}: {self.lens} by {'training step' if steps is not None else 'revision'}"
        document = {
            "schema_version": SCHEMA_VERSION,
            "lens": self.lens,
            "by": "order" if steps is None else "step",
            "text": self.text,
            "bootstrap": {
                "confidence_frac": CONFIDENCE_FRAC,
                "resamples": RESAMPLES,
                "seed": SEED,
                "over": "sequences",
            },
            "revisions": [
                {
                    "step": None if steps is None else steps[number],
                    "same_weights_as": _twin(of.name, seen),
                    **to_plain(of),
                }
                for number, of in enumerate(self.revisions)
            ],
        }
        text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        picture = png(revisions_figure(self.revisions, steps, title))
        folder = result_folder(self.root / "comparisons", first.name.partition("@")[0], self.out_dir)
        tables = [of(self.revisions, steps).encode() for of in (rows_csv, milestones_csv)]
        found = dict(zip(FILES, (*tables, picture, text.encode()), strict=True))
        write_results(folder, found, OPTION)
        say(f"comparison: {os.path.relpath(folder)}/compare.json, with {', '.join(FILES[:-1])}")


def _twin(name: str, seen: Mapping[str, Fingerprint]) -> str | None:
    """The first revision before this one with the same fingerprint."""
    for other, of_other in seen.items():
        if other == name:
            return None
        if name in seen and same_model(of_other, seen[name]):
            return other
    return None


class RevisionWriter(Callback):
    """Adds the results of a revision to the comparison.

    Args:
        series: The comparison.
    """

    def __init__(self, series: Series) -> None:
        self.series = series

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure and add.

        Raises:
            InputError: A lens gave values that are not finite, or the revision has another number of blocks.
        """
        assert isinstance(pl_module, RevisionModule)
        data: FactText = trainer.datamodule  # type: ignore[attr-defined]
        lm, origin = pl_module.frozen, pl_module.pair_origins["a"]
        model = Model(lm.clean_model_name, lm.model_id, lm.model_commit, lm.num_blocks)
        lens = {key: value for key, value in origin._asdict().items() if key != "label"}
        self.series.add(measure_revision(pl_module.revision_samples(), model, lens))
        self.series.text = data.same_in_all() | {"suite": Path(data.suite).name}


def revision_table(revisions: list[Revision], steps: list[int] | None) -> Table:
    """Table of the revisions: mean KL of the inner rows, entropy, and rows of milestones."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("revision", no_wrap=True, max_width=30)
    for heading in (
        "KL(final‖row)\ninner rows",
        "entropy\nof output",
        "top-1\nsettled",
        "rank 1\nfirst",
        "answers\nrank 1",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for number, of in enumerate(revisions):
        name = of.name.partition("@")[2] or of.name if steps is None else f"step {steps[number]:,}"
        inner = "–" if of.inner is None else f"{of.inner['kl_from_final_bits'].estimate:.3f}"
        settled, first = (_shown(of.text[key].row) for key in list(SHOWN)[:2])
        answers = "–"
        if "first_rank_le_1" in of.answers:
            at = of.answers["first_rank_le_1"]
            answers = f"{_shown(at.row)} ({round(at.reached_frac * of.num_facts)} of {of.num_facts})"
        table.add_row(escape(name), inner, f"{of.entropy_bits.estimate:.2f}", settled, first, answers)
    return table


def _shown(found: Any) -> str:
    return "–" if found is None else f"{found.estimate:.1f}"


def rows_csv(revisions: list[Revision], steps: list[int] | None) -> str:
    """CSV by revision and row: every quantity with the ends of its interval."""
    ends = [f"{name}{end}" for name in QUANTITIES for end in ("", "_low", "_high")]
    lines = [
        [*key, row, *(value for name in QUANTITIES for value in values[name][:3])]
        for key, of in _keyed(revisions, steps)
        for row, values in of.rows.items()
    ]
    return _csv(["revision", "model_commit", "step", "layer", *ends], lines)


def milestones_csv(revisions: list[Revision], steps: list[int] | None) -> str:
    """CSV by revision and milestone: mean row where it is reached, with its interval, and how often it is."""
    lines = [
        [*key, where, name, *(("", "", "") if at.row is None else at.row[:3]), at.reached_frac]
        for key, of in _keyed(revisions, steps)
        for where, name, at in milestone_lines(of)
    ]
    return _csv(
        ["revision", "model_commit", "step", "of", "milestone", "layer", "layer_low", "layer_high", "reached_frac"],
        lines,
    )


def _keyed(revisions: list[Revision], steps: list[int] | None) -> list[tuple[list[Any], Revision]]:
    return [
        ([of.name, of.model_commit, "" if steps is None else steps[number]], of) for number, of in enumerate(revisions)
    ]


def _csv(header: list[str], lines: list[list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *lines])
    return text.getvalue()
