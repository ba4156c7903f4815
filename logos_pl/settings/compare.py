"""Options of a comparison of two lenses."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """Output of a comparison.

    Args:
        out_dir: output folder; default: a new folder in `comparisons` in the log folder. Results are never overwritten.
    """

    out_dir: str | None = None
