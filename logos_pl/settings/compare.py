"""Options of a comparison of two lenses, or of a lens over revisions."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """Output of a comparison.

    Args:
        out_dir: output folder; default: a new folder in `comparisons` in the log folder. Results are never overwritten.
        suite: facts whose answers are tracked over the revisions of `--models`: `facts` (bundled), a file of your own,
            or `off`.
    """

    out_dir: str | None = None
    suite: str = "facts"
