"""Options of a sweep, and of the lenses that a command loads."""

from dataclasses import dataclass
from typing import Literal

from logos_pl.bounds import check_number

COPY_THRESHOLD, COPY_MARGIN = 0.95, 0.10
"""Defaults of the copy-collapse test. Source: docs/method.md §5.2."""


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """Lenses, output and measures of a sweep.

    Args:
        tuned: `auto`: use the tuned lens if there is one; `require`: fail if there is none.
        prism: `auto`: use the Prism lens if there is one; `require`: fail if there is none; `off`: do not use it.
        jacobian: `auto`: use the Jacobian lens if there is one; `require`: fail if there is none; `off`: do not use it.
        out_dir: output folder; default: `sweeps/run-latest` in the log folder, where earlier runs are kept.
        raw_lens: rows at which the raw lens (no final norm) is compared with the norm lens: a `sample` of four, or
            `full`.
        keep_residuals: save the residual stream of every prompt.
        attribution: run direct logit attribution for the answers: embedding, attention, MLP and biases.
        open: open the page in the browser at the end.
        copy_threshold: top-1 probability above which a row that repeats the prompt counts as copy collapse.
        copy_margin: lead of the top-1 over the top-2 probability that copy collapse requires as well.

    Raises:
        InputError: Threshold or margin is out of its bounds.
    """

    tuned: Literal["auto", "require"] = "auto"
    prism: Literal["auto", "require", "off"] = "auto"
    jacobian: Literal["auto", "require", "off"] = "auto"
    out_dir: str | None = None
    raw_lens: Literal["sample", "full"] = "sample"
    keep_residuals: bool = False
    attribution: bool = False
    open: bool = False
    copy_threshold: float = COPY_THRESHOLD
    copy_margin: float = COPY_MARGIN

    def __post_init__(self) -> None:
        check_number("--sweep.copy_threshold", self.copy_threshold, above=0, at_most=1)
        check_number("--sweep.copy_margin", self.copy_margin, at_least=0, below=1)


@dataclass(frozen=True, kw_only=True)
class LensSources:
    """Lenses to evaluate.

    Args:
        source: lens to evaluate: its folder, a folder laid out as on the Hub, or a repository on the Hub. It is never
            written to. Default: the lens in --export.folder.
        revision: release, branch or commit of the repository on the Hub.
        imported: third-party lenses to evaluate as well, from the `tuned-lens` package or Jacobian lenses: a folder, a
            file, or a location on the Hub, optionally followed by `@` and a revision. Name several of them, as
            `--lens.imported.NAME SOURCE` or as a mapping in a configuration; a single one may be named as
            `NAME=SOURCE`. See docs/imported.md.
        transfer: read a lens that was fitted on another model of the same shape, such as the model before fine-tuning,
            and report how far apart the two models are.
        sources: lenses of registered kinds without a dedicated option: `--lens.sources.NAME SOURCE`.
    """

    source: str | None = None
    revision: str | None = None
    imported: str | list[str] | dict[str, str] | None = None
    transfer: bool = False
    sources: dict[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class PrismFolder:
    """Where Prism lenses are stored.

    Args:
        folder: folder of Prism lenses, one subfolder per model.
    """

    folder: str = "checkpoints/prisms"


@dataclass(frozen=True, kw_only=True)
class JacobianFolder:
    """Where Jacobian lenses are stored.

    Args:
        folder: folder of Jacobian lenses, one subfolder per model.
    """

    folder: str = "checkpoints/jacobians"
