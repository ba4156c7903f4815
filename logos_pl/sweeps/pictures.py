"""Registry of a sweep's plots; a new plot is a line in `PICTURES`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from logos_pl.sweeps import plots
from logos_pl.sweeps.attribution_plot import contribution_figure
from logos_pl.sweeps.token_map import token_map


class Drawn(NamedTuple):
    """Data for the plots.

    Attributes:
        prompts: Prompts to draw, and their total number.
        num_blocks: Number n of blocks; rows are 0 … n.
        model_name: Name for the title.
        lenses: Lenses of the sweep, in the order of display.
        num_attributed: Number of prompts with attribution; None if it was not run.
    """

    prompts: plots.PromptSample
    num_blocks: int
    model_name: str
    lenses: Sequence[str]
    num_attributed: int | None


Picture = Callable[[Drawn], Figure | None]
"""Draws a figure; None if there is nothing to show."""


def _of_all(figure: Callable[..., Figure]) -> Picture:
    return lambda of: figure(of.prompts.records, of.num_blocks, of.model_name, of.prompts.num_prompts)


def _rank(of: Drawn) -> Figure | None:
    if not of.prompts.answered:
        return None
    return plots.rank_figure(of.prompts.answered, of.num_blocks, of.model_name, of.prompts.num_answered)


def _contributions(of: Drawn) -> Figure | None:
    if of.num_attributed is None:
        return None
    attributed = [record for record in of.prompts.records if record.attribution is not None]
    return contribution_figure(attributed, of.num_blocks, of.model_name, of.num_attributed)


PICTURES: dict[str, Picture] = {
    "kl": _of_all(plots.kl_figure),
    "cosine": _of_all(plots.cosine_figure),
    "entropy": _of_all(plots.entropy_figure),
    "tokens": lambda of: token_map(of.prompts.records[0], of.lenses),
    "rank": _rank,
    "decomposition": _contributions,
}
"""Plots by the ending of the file name."""


def draw_pictures(of: Drawn, path_of: Callable[[str], Path]) -> list[str]:
    """Draw and write all plots that have something to show; returns the names of their files.

    Args:
        of: Data for the plots.
        path_of: Returns the path of a file, given the ending of its name.

    Raises:
        OSError: A file cannot be written.
    """
    figures: Mapping[str, Figure | None] = {name: draw(of) for name, draw in PICTURES.items()}
    names = []
    for name, figure in figures.items():
        if figure is not None:
            path = path_of(f"{name}.png")
            plots.save_figure(figure, path)
            names.append(path.name)
    return names
