"""Options of a Jacobian lens."""

from dataclasses import dataclass
from typing import Literal

from logos_pl.bounds import check_number
from logos_pl.settings.text import MAX_SEQ_LEN, MAX_SEQS


@dataclass(frozen=True, kw_only=True)
class JacobianSettings:
    """How a Jacobian lens is fitted and where it is stored.

    Args:
        sequences: number of packed sequences over which Jacobians are averaged.
        probes: number of output dimensions measured on each sequence, spread evenly over the sequences, or `all`. Each
            takes one backward pass through the model.
        skip_first: positions skipped at the beginning of each sequence; the last position is always skipped.
        folder: folder of Jacobian lenses, one subfolder per model. When a lens is replaced, the old one is kept as
            <model>.replaced-<YYYYMMDD-HHMM> (UTC). An interrupted run saves its partial sums there, as
            <model>.unfinished, and the same command resumes from them.

    Raises:
        InputError: A number is out of its bounds.
    """

    sequences: int = 512
    probes: int | Literal["all"] = 32
    skip_first: int = 16
    folder: str = "checkpoints/jacobians"

    def __post_init__(self) -> None:
        check_number("--jacobian.sequences", self.sequences, at_least=2, at_most=MAX_SEQS)
        check_number("--jacobian.skip_first", self.skip_first, at_least=0, at_most=MAX_SEQ_LEN)
        if self.probes != "all":
            check_number("--jacobian.probes", self.probes, at_least=1)
