"""Result of the unspoken intermediates of a test: printing, files and logging."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from matplotlib.figure import Figure

from logos_pl.artifacts.filenames import UNSPOKEN_FILES
from logos_pl.data.token_strings import TokenStrings
from logos_pl.data.unspoken import UnspokenSuite
from logos_pl.data.unspoken_tokens import TokenizedSuite
from logos_pl.functional.pass_at_k import FOUND_RANK
from logos_pl.gates.unspoken_csv import unspoken_csv
from logos_pl.gates.unspoken_evaluator import UnspokenReadings
from logos_pl.gates.unspoken_figures import ALL, UnspokenFigures, measure_unspoken
from logos_pl.gates.unspoken_plot import unspoken_figure
from logos_pl.gates.unspoken_report import beside_gate_b, headline, to_plain, unspoken_table
from logos_pl.io.fitting import print_in_parts
from logos_pl.io.terminal import say
from logos_pl.lm.frozen import FrozenLM
from logos_pl.modules.pictures import png


@dataclass(frozen=True)
class UnspokenResult:
    """What the lenses read of a suite of unspoken intermediates.

    Attributes:
        suite: The suite.
        tokenized: Its tokens.
        readings: Ranks of all lenses.
    """

    suite: UnspokenSuite
    tokenized: TokenizedSuite
    readings: UnspokenReadings

    @cached_property
    def figures(self) -> UnspokenFigures:
        """Figures with intervals."""
        return measure_unspoken(self.readings)

    def section(self) -> dict[str, Any]:
        """Section of `gates.json`."""
        return to_plain(self.suite, self.tokenized, self.figures)

    def print(self) -> None:
        """Print the table of all lenses."""
        say(f"\n{headline(self.suite, self.tokenized, self.figures)}")
        print_in_parts(lambda lenses: unspoken_table(self.figures, lenses), list(self.figures.lenses))

    def beside_gate_b(self, lens: str) -> str | None:
        """How often a lens shows the answer before the intermediate."""
        return beside_gate_b(self.figures, lens)

    def figure(self, model_name: str) -> Figure:
        """The plot."""
        return unspoken_figure(self.readings, self.figures, model_name)

    def files(self, lm: FrozenLM) -> dict[str, bytes]:
        """Contents of the files beside `gates.json`."""
        assert lm.tokenizer is not None
        table, picture = UNSPOKEN_FILES
        content = unspoken_csv(self.tokenized, self.readings, TokenStrings(lm.tokenizer))
        return {table: content.encode(), picture: png(self.figure(lm.clean_model_name))}

    def scalars(self) -> dict[str, float]:
        """Figures for TensorBoard, by label."""
        found = {}
        for lens, figures in self.figures.lenses.items():
            whole = figures.sets[ALL]
            for label, of in ((f"pass_at_{FOUND_RANK}", whole.pass_at[FOUND_RANK]), ("area", whole.area)):
                if of is not None:
                    found[f"intermediates_{label}_{lens}"] = of.estimate
        return found
