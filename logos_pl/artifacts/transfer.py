"""A lens on a model other than its own, such as a fine-tune: how far that model is from the recorded one.

The original model is not loaded, so its distributions cannot be compared. The provenance records the hash of its head,
its rotary frequencies, residual norms and logits on a fixed sequence, and the lens's held-out KL divergence.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from logos_pl.artifacts.fingerprint import Movement, movement
from logos_pl.artifacts.provenance import Described, OfModel
from logos_pl.errors import InputError
from logos_pl.lenses.head import Head
from logos_pl.lm.frozen import FrozenLM

SHOWN_COMMIT = 12
"""Number of characters of a commit in messages."""


@dataclass(frozen=True)
class DepthKl:
    """KL(P_final ‖ P_row) in bits on held-out text, at one depth percentile: norm lens and lens."""

    row: int
    norm: float
    lens: float


@dataclass(frozen=True)
class Transfer:
    """A lens on another model.

    Attributes:
        fitted_on: Hub id or folder name of the model the lens was fitted on.
        fitted_commit: Its commit.
        model_id: The model it is read with.
        model_commit: Its commit.
        moved: How far the second is from the record of the first.
        recorded: Held-out KL at the fit, by depth percentile (`"25"`, …).
        text: Description of the text of these figures.
        here: Held-out KL on the second model, as measured by `validate` or `test`; None before.
        text_here: Description of the text of these; None likewise.
    """

    fitted_on: str
    fitted_commit: str
    model_id: str
    model_commit: str
    moved: Movement
    recorded: dict[str, DepthKl]
    text: str
    here: dict[str, DepthKl] | None = None
    text_here: str | None = None

    @property
    def of_one_text(self) -> bool:
        """Whether both were measured on the same text, so that the figures can be compared."""
        return self.text_here == self.text

    def to_plain(self) -> dict[str, Any]:
        """As plain values."""
        return dataclasses.asdict(self) | {"moved": self.moved._asdict()}

    def sentence(self, label: str) -> str:
        """Describe whose lens it is, and how far the model's outputs have moved.

        Args:
            label: Kind of the lens.
        """
        moved = self.moved
        head = "the head is the same" if moved.same_head else "the head differs"
        rotary = "" if moved.same_rotary else ", the rotary frequencies differ"
        return (
            f"the {label} was fitted on {self.fitted_on} at {self.fitted_commit[:SHOWN_COMMIT]} and is read with "
            f"{self.model_id} at {self.model_commit[:SHOWN_COMMIT]}: {head}{rotary}; on a fixed sequence the residual "
            f"norms differ by {moved.norm_drift:.1%} (row {moved.norm_row}), the logits by {moved.logit_drift:.1%}, "
            f"and {moved.top_kept} of the {moved.top_recorded} likeliest tokens stay among the likeliest"
        )


def is_other_model(recorded: OfModel, lm: FrozenLM) -> bool:
    """Whether a lens was fitted on another model, or another commit of it."""
    return (recorded.model_id, recorded.model_commit) != (lm.model_id, lm.model_commit)


def measure_transfer(recorded: Described, lm: FrozenLM, head: Head) -> Transfer:
    """How far a model is from the one a lens was fitted on.

    Args:
        recorded: Provenance of the lens.
        lm: The model.
        head: Its head.

    Raises:
        InputError: The models differ in their number of rows or context, so that the lens does not fit.
    """
    return Transfer(
        fitted_on=recorded.model_id,
        fitted_commit=recorded.model_commit,
        model_id=lm.model_id,
        model_commit=lm.model_commit,
        moved=movement(recorded.fingerprint, lm, head),
        recorded={percent: _recorded(at) for percent, at in recorded.val_kl_bits.items()},
        text=text_words(
            recorded.dataset.repo_id, recorded.dataset.name, recorded.dataset.format, recorded.dataset.special_tokens
        ),
    )


def text_words(repo_id: str, name: str | None, rows: str, special_tokens: str) -> str:
    """Describe a text.

    Args:
        repo_id: Hub id or folder name of the data set.
        name: Its configuration.
        rows: Format of its rows, ``text`` or ``chat``.
        special_tokens: ``auto``, or ``none`` for texts without them.
    """
    configuration = "" if name is None else f" {name}"
    rendered = ", conversations" if rows == "chat" else ""
    return f"{repo_id}{configuration}{rendered}" + (", without special tokens" if special_tokens == "none" else "")


def depth_kl(rows: Mapping[str, int], norm: Mapping[str, Any], lens: Mapping[str, Any]) -> dict[str, DepthKl]:
    """Measured KL at the recorded rows.

    Args:
        rows: Row by depth percentile.
        norm: Means of the norm lens by quantity, each by row.
        lens: Those of the lens.
    """
    key = "kl_from_final_bits"
    return {percent: DepthKl(row, float(norm[key][row]), float(lens[key][row])) for percent, row in rows.items()}


def _recorded(at: Any) -> DepthKl:
    """Figures at a depth percentile; the second lens is named by its kind."""
    fields = [part.name for part in dataclasses.fields(at)]
    lens = next(name for name in fields if name not in ("row", "norm"))
    return DepthKl(at.row, at.norm.kl_from_final_bits, getattr(at, lens).kl_from_final_bits)


def refuse_shape(rows: tuple[int, int], width: tuple[int, int], what: str) -> None:
    """Check that a lens fits the shape of a model exactly.

    Args:
        rows: Rows of the lens and of the model.
        width: Widths of both.
        what: Kind of the lens, for the message.

    Raises:
        InputError: It does not.
    """
    if (rows[0], width[0]) != (rows[1], width[1]):
        raise InputError(
            f"The {what} is for a model of {rows[0] - 1} blocks and width {width[0]}, but this one has {rows[1] - 1} "
            f"and {width[1]}: --lens.transfer reads a lens with a model of the same shape, such as a fine-tune."
        )
