"""A tuned lens in a checkpoint of a fit, read as it would be exported: the averages, in the plain basis."""

from pathlib import Path
from typing import NamedTuple

from logos_pl.artifacts.checkpoint_file import read_checkpoint
from logos_pl.artifacts.checkpoint_lens import bias_only_in, tuned_in
from logos_pl.errors import state_of_a_checkpoint
from logos_pl.lenses.translator import Translators
from logos_pl.lm.sources import clean_name


class CheckpointOrigin(NamedTuple):
    """Where a lens from a checkpoint comes from; there is no provenance before the export.

    Attributes:
        model_id: The model of the fit.
        clean_model_name: The id's last part.
        model_commit: Its commit.
        decoding_norm: Norm in front of the unembedding.
        step: Optimiser step after which the checkpoint was written.
        held_out_frac: Share of the documents that the fit held out.
    """

    model_id: str
    clean_model_name: str
    model_commit: str
    decoding_norm: str
    step: int
    held_out_frac: float


class CheckpointLenses(NamedTuple):
    """The lenses of a checkpoint: the bias-only lens is None where the fit has none."""

    tuned: Translators
    bias_only: Translators | None
    origin: CheckpointOrigin


def read_lenses(path: Path) -> CheckpointLenses:
    """The tuned lens in a checkpoint, its bias-only lens if any, and whose they are; on the CPU.

    Raises:
        InputError: It is no whole checkpoint of a fit, was altered, or holds other lenses than a fit writes.
    """
    checkpoint = read_checkpoint(path)
    with state_of_a_checkpoint("lens"):
        identity = checkpoint["lens_identity"]
        origin = CheckpointOrigin(
            model_id=identity["model_id"],
            clean_model_name=clean_name(identity["model_id"]),
            model_commit=identity["model_commit"],
            decoding_norm=identity["decoding_norm"],
            step=int(checkpoint["global_step"]),
            held_out_frac=float(checkpoint["TrainingText"]["identity"]["held_out_frac"]),
        )
        return CheckpointLenses(tuned_in(checkpoint), bias_only_in(checkpoint), origin)
