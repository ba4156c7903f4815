"""Progress of a Prism fit, and its tables and artifact at the end."""

import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.table import Table

from logos_pl.agreement import together
from logos_pl.artifacts import provenance_schema
from logos_pl.artifacts.environment import environment
from logos_pl.artifacts.fingerprint import fingerprint
from logos_pl.artifacts.prism import check_prism_destination, save_prism
from logos_pl.artifacts.prism_provenance import PrismCandidate, PrismKl, PrismProvenance
from logos_pl.data.consumed_text import ConsumedText
from logos_pl.data.training_text import TrainingText
from logos_pl.errors import InterruptedRunError
from logos_pl.fit.export import at_row, dataset_of, identity_of, precision_of, say_where_kept
from logos_pl.fit.prism import PrismModule
from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.io.fitting import print_table
from logos_pl.io.progress import Progress
from logos_pl.io.terminal import say
from logos_pl.modules.graceful_stop import SIGNALS
from logos_pl.modules.kl_table import print_kl_table


class PrismExport(Callback):
    """Prints progress, and writes the artifact at the end of the fit.

    Args:
        destination: Folder of the artifact.
    """

    def __init__(self, destination: Path) -> None:
        self.destination = destination
        self._progress = Progress("prism")
        self._handlers: dict[int, Any] = {}

    @together
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check before reading text that the artifact can be written.

        Raises:
            InputError: The folder holds something else or a Prism lens of another model.
            RunError: The folder cannot be written.
        """
        assert isinstance(pl_module, PrismModule)
        lm = pl_module.frozen
        if trainer.is_global_zero:
            check_prism_destination(self.destination, lm.model_id, lm.model_commit)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the progress and install handlers for SIGINT and SIGTERM."""
        assert isinstance(pl_module, PrismModule)
        self._progress = Progress("prism", pl_module.prism.positions, "positions", shown=trainer.is_global_zero).start()
        self._handlers = {number: signal.signal(number, self._stop) for number in SIGNALS}

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Abort the fit; a second signal kills the process.

        Raises:
            InterruptedRunError: Always.
        """
        for listened in SIGNALS:
            signal.signal(listened, signal.SIG_DFL)
        name = signal.Signals(number).name
        raise InterruptedRunError(f"Stopped by {name} before the Prism lens was fitted; nothing was written.", number)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the terminal and the signal handlers."""
        self._progress.stop()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore both, since Lightning skips teardown after an error."""
        self.teardown(trainer, pl_module, "fit")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the positions of all processes."""
        assert isinstance(pl_module, PrismModule)
        done = min(pl_module.num_positions * trainer.world_size, pl_module.prism.positions)
        self._progress.advance(done - self._progress.done)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print that fitting and validation are in progress."""
        assert isinstance(pl_module, PrismModule)
        self._progress.stop()
        shown = trainer.is_global_zero
        if shown:
            say(f"fitting maps of width {pl_module.frozen.d_model} and validating them on held-out text …")
        self._progress = Progress("fitting maps and validating them", shown=shown).start()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the display."""
        self._progress.stop()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the artifact and print the results; all processes count, the first one writes."""
        assert isinstance(pl_module, PrismModule)
        assert pl_module.chosen is not None
        data: TrainingText = trainer.datamodule  # type: ignore[attr-defined]
        consumed = data.ledger()
        mark = fingerprint(pl_module.frozen, pl_module.head)  # in all processes, as the model may be sharded
        if not trainer.is_global_zero:
            return
        provenance = _provenance(pl_module, data, consumed, trainer.world_size, mark)
        saved = save_prism(self.destination, pl_module.prisms[pl_module.chosen].prism, provenance)
        say("\nKL(final‖row) on held-out text, in bits, by whitening and pooled depths; * is the best:")
        print_table(candidate_table(pl_module))
        print_kl_table(pl_module.validation, f"KL divergence in bits on held-out text, {provenance.model_id}:")
        counted = f"{provenance.positions:,} distinct positions, {consumed.tokens:,} tokens"
        say(f"{counted}, {consumed.documents:,} documents.")
        say(f"prism: {os.path.relpath(self.destination)}")
        if saved.earlier is not None:
            say_where_kept("prism", saved.earlier)


def candidate_table(module: PrismModule) -> Table:
    """Table of the candidates: divergence at each depth percentile and their mean."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("whitening", no_wrap=True)
    table.add_column("depths pooled")
    for heading in (*(f"{percent}%" for percent in depth_percentile_rows(module.frozen.num_blocks)), "mean", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for candidate, divergences in module.divergences.items():
        figures = [f"{bits:.3f}" for bits in (*divergences.values(), module.mean_divergence(candidate))]
        depths = ", ".join(f"{depth}%" for depth in candidate.depths)
        table.add_row(candidate.whiten, depths, *figures, "*" if candidate == module.chosen else "")
    return table


def _provenance(
    module: PrismModule,
    data: TrainingText,
    consumed: ConsumedText,
    world_size: int,
    mark: provenance_schema.Fingerprint,
) -> PrismProvenance:
    chosen = module.chosen
    assert chosen is not None
    return PrismProvenance(
        **identity_of(module.frozen),
        decoding_norm=module.decoding_norm,
        dataset=dataset_of(consumed, data.settings.held_out_frac),
        budget=provenance_schema.Budget(
            tokens=consumed.tokens,
            tokens_asked=int(data.settings.tokens),
            tokens_trained=consumed.tokens,
            passes=1,
            seq_len=data.settings.seq_len,
            positions_per_seq=module.total_positions // consumed.sequences,
            position_range=data.settings.drawn_range,
        ),
        positions=module.total_positions,
        positions_asked=module.prism.positions,
        world_size=world_size,
        whiten=chosen.whiten,
        depths=list(chosen.depths),
        rows=[module.pooled_rows[depth] for depth in chosen.depths],
        shrinkage=module.prism.shrinkage,
        rank=module.rank,
        candidates=[
            PrismCandidate(
                whiten=candidate.whiten,
                depths=list(candidate.depths),
                rows=[module.pooled_rows[depth] for depth in candidate.depths],
                kl_from_final_bits={str(percent): bits for percent, bits in divergences.items()},
                mean_kl_from_final_bits=module.mean_divergence(candidate),
            )
            for candidate, divergences in module.divergences.items()
        ],
        precision=precision_of(module.frozen, module.head),
        environment=environment(module.device),
        val_kl_bits={
            str(percent): PrismKl(row, *(at_row(module.validation[lens], row) for lens in ("norm", "prism")))
            for percent, row in depth_percentile_rows(module.frozen.num_blocks).items()
        },
        fingerprint=mark,
    )
