"""Progress of a Jacobian fit, its checkpoints, and its table and artifact at the end."""

import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from logos_pl.artifacts import provenance_schema
from logos_pl.artifacts.environment import environment
from logos_pl.artifacts.fingerprint import fingerprint
from logos_pl.artifacts.jacobian import check_jacobian_destination, save_jacobian
from logos_pl.artifacts.jacobian_provenance import JacobianKl, JacobianProvenance
from logos_pl.data.consumed_text import ConsumedText
from logos_pl.data.training_text import TrainingText
from logos_pl.errors import InterruptedRunError, RunError
from logos_pl.fit.export import at_row, dataset_of, identity_of, precision_of, say_where_kept
from logos_pl.fit.jacobian import JacobianModule
from logos_pl.fit.unfinished import restore_unfinished, write_unfinished
from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.functional.mean_jacobian import mean_jacobian, relative_error
from logos_pl.io.progress import Progress
from logos_pl.io.terminal import say, say_at_once
from logos_pl.modules.graceful_stop import SIGNALS
from logos_pl.modules.kl_table import print_kl_table

SECONDS_BETWEEN_CHECKPOINTS = 120.0
CHECKPOINT_SHARE = 0.02
"""Largest share of the time that goes into checkpoints."""


class JacobianExport(Callback):
    """Prints progress, keeps a checkpoint of the sums while the fit runs, and writes the artifact at its end.

    Args:
        destination: Folder of the artifact.

    Attributes:
        unfinished: Checkpoint of a fit that has not finished.
    """

    def __init__(self, destination: Path) -> None:
        self.destination = destination
        self.unfinished = destination.with_name(f"{destination.name}.unfinished")
        self._progress = Progress("jacobian")
        self._handlers: dict[int, Any] = {}
        self._received: int | None = None
        self._next_checkpoint = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check before reading text that the artifact can be written, and resume an unfinished fit.

        Raises:
            InputError: The folder holds something else or the lens of another model, or the unfinished fit has other
                options.
            RunError: The folder cannot be written.
        """
        assert isinstance(pl_module, JacobianModule)
        lm = pl_module.frozen
        check_jacobian_destination(self.destination, lm.model_id, lm.model_commit)
        if self.unfinished.exists():
            data: TrainingText = trainer.datamodule  # type: ignore[attr-defined]
            restore_unfinished(self.unfinished, pl_module, data)
            done = _passes_done(pl_module, data)
            say(f"resuming after {done:,} backward passes: {os.path.relpath(self.unfinished)}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the progress, and install handlers for SIGINT and SIGTERM."""
        assert isinstance(pl_module, JacobianModule)
        module, data = pl_module, trainer.datamodule  # type: ignore[attr-defined]
        settings = data.settings
        passes = int(settings.tokens) // settings.seq_len // int(settings.micro_batch_seqs) * module.probes
        self._progress = Progress("jacobian", passes, "backward passes").start(_passes_done(module, data))
        self._handlers = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        self._next_checkpoint = time.monotonic() + SECONDS_BETWEEN_CHECKPOINTS
        module.after_probe = lambda: self._after_probe(module, data)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        for listened in SIGNALS:
            signal.signal(listened, signal.SIG_DFL)  # a second signal kills the process
        say_at_once("Stopping after this backward pass; a second signal ends the run at once, without a checkpoint.")

    def _after_probe(self, module: JacobianModule, data: TrainingText) -> None:
        """Count a backward pass, and write a checkpoint if one is due or a signal was received.

        Raises:
            InterruptedRunError: A signal was received.
            RunError: The checkpoint cannot be written.
        """
        self._progress.advance()
        if module.probes_done == module.probes:
            return  # the micro-batch is about to end; checkpoints are written within one
        began = time.monotonic()
        if self._received is not None:
            write_unfinished(self.unfinished, module, data)
            raise InterruptedRunError(
                f"Stopped by {signal.Signals(self._received).name} after {_passes_done(module, data):,} backward "
                f"passes; the same command resumes from there ({os.path.relpath(self.unfinished)}).",
                self._received,
            )
        if began >= self._next_checkpoint:
            write_unfinished(self.unfinished, module, data)
            pause = (time.monotonic() - began) / CHECKPOINT_SHARE
            self._next_checkpoint = time.monotonic() + max(SECONDS_BETWEEN_CHECKPOINTS, pause)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the terminal and the signal handlers."""
        self._progress.stop()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore both, since Lightning skips teardown after an error."""
        self.teardown(trainer, pl_module, "fit")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print that validation is in progress."""
        self._progress.stop()
        self._progress = Progress("validating on held-out text").start()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the display."""
        self._progress.stop()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the artifact, remove the checkpoint and print the results."""
        assert isinstance(pl_module, JacobianModule)
        data: TrainingText = trainer.datamodule  # type: ignore[attr-defined]
        consumed = data.ledger()
        provenance = _provenance(pl_module, data, consumed)
        saved = save_jacobian(self.destination, mean_jacobian(pl_module.sums), provenance)
        _remove(self.unfinished)
        print_kl_table(pl_module.validation, f"KL divergence in bits on held-out text, {provenance.model_id}:")
        errors = provenance.relative_errors
        at = {percent: f"{errors[row]:.1%} at {percent}%" for percent, row in _percentiles(pl_module)}
        say(
            f"Standard error of J, as a share of its norm: {errors[0]:.1%} at row 0, {', '.join(at.values())} depth; "
            f"every dimension was measured on at least {provenance.fewest_sequences:,} sequences. Four times the "
            "sequences halve it."
        )
        counted = f"{provenance.sequences:,} sequences, {consumed.tokens:,} tokens"
        say(f"{counted}, {consumed.documents:,} documents.")
        say(f"jacobian: {os.path.relpath(self.destination)}")
        if saved.earlier is not None:
            say_where_kept("Jacobian lens", saved.earlier)


def _passes_done(module: JacobianModule, data: TrainingText) -> int:
    """Backward passes whose gradients are in the sums."""
    return module.num_sequences // int(data.settings.micro_batch_seqs) * module.probes + module.probes_done


def _remove(path: Path) -> None:
    """Remove the checkpoint of a fit that has ended.

    Raises:
        RunError: It cannot be removed; the next run would resume from it.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{os.path.relpath(path)} cannot be removed ({error.strerror}): remove it by hand.") from error


def _percentiles(module: JacobianModule) -> list[tuple[int, int]]:
    return list(depth_percentile_rows(module.frozen.num_blocks).items())


def _provenance(module: JacobianModule, data: TrainingText, consumed: ConsumedText) -> JacobianProvenance:
    seq_len, skip = data.settings.seq_len, module.jacobian.skip_first
    return JacobianProvenance(
        **identity_of(module.frozen),
        seed=module.seed,
        dataset=dataset_of(consumed, data.settings.held_out_frac),
        budget=provenance_schema.Budget(
            tokens=consumed.tokens,
            tokens_asked=module.jacobian.sequences * seq_len,
            tokens_trained=consumed.tokens,
            passes=1,
            seq_len=seq_len,
            positions_per_seq=seq_len - 1 - skip,
            position_range=(skip / seq_len, (seq_len - 1) / seq_len),
        ),
        sequences=module.num_sequences,
        sequences_asked=module.jacobian.sequences,
        probes=module.probes,
        skip_first=skip,
        fewest_sequences=int(module.sums.counts.min()),
        relative_errors=relative_error(module.sums).tolist(),
        precision=precision_of(module.frozen, module.head),
        environment=environment(module.device),
        val_kl_bits={
            str(percent): JacobianKl(row, *(at_row(module.validation[lens], row) for lens in ("norm", "jacobian")))
            for percent, row in _percentiles(module)
        },
        fingerprint=fingerprint(module.frozen, module.head),
    )
