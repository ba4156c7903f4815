"""Options of a sweep, and of the lenses that a command reads."""

from dataclasses import dataclass
from typing import Literal

from logos_pl.bounds import check_number

COPY_THRESHOLD, COPY_MARGIN = 0.95, 0.10
"""What makes a copy where the user leaves it to us. Source: docs/method.md §5.2."""


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """What a prediction reads and writes.

    Args:
        tuned: `auto`: sweep without a tuned lens where there is none; `require`: refuse to.
        prism: `auto`: read the prism, too, where there is one; `require`: refuse to go on without; `off`: leave it.
        out_dir: folder to write to; left out: `sweeps/run-latest` of the logs, whose earlier runs are kept.
        raw_lens: rows at which the norm lens is set against the bare unembedding: `sample`, four of them, or `full`.
        keep_residuals: keep the residual stream of every prompt, too.
        attribution: attribute the answers' logits to embedding, attention, MLP and biases, too.
        copy_threshold: probability of the top-1 token above which a row that repeats the prompt counts as a copy.
        copy_margin: what that probability has to exceed the second by, for every kind of copy.

    Raises:
        InputError: threshold or margin is no probability.
    """

    tuned: Literal["auto", "require"] = "auto"
    prism: Literal["auto", "require", "off"] = "auto"
    out_dir: str | None = None
    raw_lens: Literal["sample", "full"] = "sample"
    keep_residuals: bool = False
    attribution: bool = False
    copy_threshold: float = COPY_THRESHOLD
    copy_margin: float = COPY_MARGIN

    def __post_init__(self) -> None:
        check_number("--sweep.copy_threshold", self.copy_threshold, above=0, at_most=1)
        check_number("--sweep.copy_margin", self.copy_margin, at_least=0, below=1)


@dataclass(frozen=True, kw_only=True)
class LensSource:
    """Which lens an evaluation reads.

    Args:
        source: lens to evaluate, only ever read: its folder, a folder in the layout of the Hub, or a repository on the
            Hub; left out: the one under --export.folder.
        revision: release, branch or commit of a repository on the Hub.
    """

    source: str | None = None
    revision: str | None = None


@dataclass(frozen=True, kw_only=True)
class LensSources(LensSource):
    """Which lenses a sweep or a test reads.

    Args:
        imported: a lens trained with the `tuned-lens` package, to be swept and judged beside ours: its folder, or the
            repo id of a Space that holds such lenses by model, AlignmentResearch/tuned-lens.
        sources: lenses of kinds that have no option of their own, by the kind's name: `--lens.sources.NAME SOURCE`.
    """

    imported: str | None = None
    sources: dict[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class PrismFolder:
    """Where prisms are kept.

    Args:
        folder: folder of the prisms; a model's is in the subfolder named after it.
    """

    folder: str = "checkpoints/prisms"
