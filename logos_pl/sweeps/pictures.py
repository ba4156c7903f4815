"""The pictures of a sweep: which there are, and what each is drawn from. A new one is one line in `PICTURES`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from logos_pl.sweeps import plots
from logos_pl.sweeps.attribution_plot import contribution_figure
from logos_pl.sweeps.token_map import token_map


class Drawn(NamedTuple):
    """What a picture may show.

    Attributes:
        prompts: Those that are drawn, and how many there were.
        num_blocks: Transformer blocks n; rows are 0 … n.
        model_name: For the title.
        lenses: The lenses that have read the prompts, in the order in which they are shown.
        num_attributed: Prompts whose logit is attributed to components; None where that was not asked for.
    """

    prompts: plots.PromptSample
    num_blocks: int
    model_name: str
    lenses: Sequence[str]
    num_attributed: int | None


Picture = Callable[[Drawn], Figure | None]
"""Draws one; None where there is nothing to show."""


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
"""By what the file's name ends in."""


def draw_pictures(of: Drawn, path_of: Callable[[str], Path]) -> list[str]:
    """Draw and write all pictures that have something to show; the names of their files.

    Args:
        of: What they show.
        path_of: The path of a file by what its name ends in.

    Raises:
        OSError: The disk refuses.
    """
    figures: Mapping[str, Figure | None] = {name: draw(of) for name, draw in PICTURES.items()}
    names = []
    for name, figure in figures.items():
        if figure is not None:
            path = path_of(f"{name}.png")
            plots.save_figure(figure, path)
            names.append(path.name)
    return names
