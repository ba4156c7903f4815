"""Loads a tuned lens from a checkpoint as it would be exported: averaged weights in the plain basis."""

from pathlib import Path
from typing import NamedTuple

from logos_pl.artifacts.checkpoint_file import read_checkpoint
from logos_pl.artifacts.checkpoint_lens import bias_only_in, tuned_in
from logos_pl.errors import state_of_a_checkpoint
from logos_pl.lenses.translator import Translators
from logos_pl.lm.sources import clean_name


class CheckpointOrigin(NamedTuple):
    """Origin of a lens from a checkpoint, which has no provenance yet.

    Attributes:
        model_id: Model of the fit.
        clean_model_name: Last part of the id.
        model_commit: Commit of the model.
        decoding_norm: Norm before the unembedding.
        step: Optimiser step of the checkpoint.
        held_out_frac: Held-out fraction of the fit.
    """

    model_id: str
    clean_model_name: str
    model_commit: str
    decoding_norm: str
    step: int
    held_out_frac: float


class CheckpointLenses(NamedTuple):
    """Lenses of a checkpoint; the bias-only lens is None if the fit has none."""

    tuned: Translators
    bias_only: Translators | None
    origin: CheckpointOrigin


def read_lenses(path: Path) -> CheckpointLenses:
    """The tuned lens in a checkpoint, its bias-only lens if any, and whose they are; on the CPU.

    Raises:
        InputError: It is not a complete checkpoint of a fit, was altered, or has invalid lenses.
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
