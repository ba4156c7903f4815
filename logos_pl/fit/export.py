"""End of a fit: writes the best checkpoint as an artifact with provenance, and prints the results."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from logos_pl.agreement import together
from logos_pl.artifacts import provenance_schema
from logos_pl.artifacts.checkpoint_file import check_checkpoint, read_checkpoint
from logos_pl.artifacts.checkpoint_lens import bias_only_in, tuned_in
from logos_pl.artifacts.environment import environment, git_sha, project_version
from logos_pl.artifacts.fingerprint import fingerprint
from logos_pl.artifacts.provenance import Provenance
from logos_pl.artifacts.tuned_lens import check_destination_of, save_tuned_lens
from logos_pl.artifacts.weights import capacity_of, temperature_of
from logos_pl.data.consumed_text import ConsumedText
from logos_pl.data.training_text import TrainingText
from logos_pl.errors import InputError, RunError, state_of_a_checkpoint
from logos_pl.fit.checkpoint import RunCheckpoint
from logos_pl.fit.ledger import Counts, Ledger
from logos_pl.fit.module import TuningModule
from logos_pl.fit.resume import refuse_other_run
from logos_pl.fit.stopping import PercentileStopping, Validated
from logos_pl.functional.budget import warmup_steps
from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.functional.training_basis import DAMPING
from logos_pl.io.progress import Progress
from logos_pl.io.terminal import say
from logos_pl.lenses.head import Head
from logos_pl.lenses.translator import Translators
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.sources import clean_name
from logos_pl.modules.base import Readings
from logos_pl.modules.kl_table import print_kl_table


class LensExport(Callback):
    """Writes the artifact when the fit has completed.

    Args:
        destination: Folder of the artifact.
        best: Callback that saves the best checkpoint.
        ledger: Callback that counts steps and tokens.
        stopping: Callback for early stopping, which records the validations.
    """

    def __init__(self, destination: Path, best: RunCheckpoint, ledger: Ledger, stopping: PercentileStopping) -> None:
        self.destination, self.best, self.ledger, self.stopping = destination, best, ledger, stopping

    @together
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check before training that the artifact can be written.

        Raises:
            InputError: The folder holds something else or a lens of another model, or the best checkpoint of a resumed
                run is missing, altered or of another run.
            RunError: The folder cannot be written.
        """
        assert isinstance(pl_module, TuningModule)
        lm = pl_module.frozen
        if trainer.is_global_zero:
            check_destination_of(self.destination, lm.model_id, lm.model_commit)
        best = self.best
        if not best.best_model_path:
            return
        if not best.path.is_file():
            raise InputError(
                f"{os.path.relpath(best.path)} is missing, but the resumed run had it: restore it, or start again."
            )
        if trainer.is_global_zero:
            refuse_other_run(check_checkpoint(best.path)["lens_identity"], pl_module.identity(), best.path.name)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export the best checkpoint; all processes count, the first one writes."""
        assert isinstance(pl_module, TuningModule)
        data_module: TrainingText = trainer.datamodule  # type: ignore[attr-defined]
        counts = self.ledger.counts()
        consumed = data_module.ledger()
        trained = consumed.sequences * data_module.settings.seq_len
        if counts.tokens != trained:
            raise RunError(
                f"The trainer counted {counts.tokens} tokens, but the data module {trained}: the provenance would be "
                "wrong, so the artifact is not written; please report this."
            )
        mark = fingerprint(pl_module.frozen, pl_module.head)  # in all processes, as the model may be sharded
        if trainer.is_global_zero:
            with Progress("writing the lens"):
                provenance, readings, earlier = self._export(trainer, pl_module, data_module, counts, consumed, mark)
            self._report(trainer, provenance, readings)
            if earlier is not None:
                say_where_kept("lens", earlier)

    def _export(
        self,
        trainer: Trainer,
        module: TuningModule,
        data_module: TrainingText,
        counts: Counts,
        consumed: ConsumedText,
        mark: provenance_schema.Fingerprint,
    ) -> tuple[Provenance, Readings, Path | None]:
        """Write the artifact; returns its provenance, its readings, and where an earlier artifact is kept."""
        best = read_checkpoint(self.best.path)
        translators = tuned_in(best)
        with state_of_a_checkpoint("validation"):
            readings: Readings = {
                lens: {quantity: torch.tensor(values, dtype=torch.float64) for quantity, values in reading.items()}
                for lens, reading in best["lens_validation"].items()
            }
        provenance = Provenance(
            **identity_of(module.frozen),
            seed=module.seed,
            decoding_norm=module.decoding_norm,
            **_what_was_read(data_module, counts, consumed, trainer.world_size, trainer.accumulate_grad_batches),
            **_how(module, translators, counts),
            optim=_optim(module, data_module.total_steps, counts.steps, best["global_step"]),
            environment=environment(module.device),
            val_kl_bits=_at_percentiles(readings, module.frozen.num_blocks),
            fingerprint=mark,
        )
        saved = save_tuned_lens(self.destination, translators, provenance, bias_only_in(best))
        return provenance, readings, saved.earlier

    def _report(self, trainer: Trainer, provenance: Provenance, readings: Readings) -> None:
        step = provenance.optim.exported_step
        print_kl_table(readings, f"KL divergence in bits on held-out text, {provenance.model_id}, step {step}:")
        say(ending(provenance, self.stopping.start, self.stopping.best_step))
        say(f"lens:        {os.path.relpath(self.destination)}")
        if isinstance(trainer.logger, TensorBoardLogger):  # trainer.log_dir is a collective call
            say(f"TensorBoard: tensorboard --logdir {os.path.relpath(trainer.logger.log_dir)}")


def say_where_kept(what: str, earlier: Path) -> None:
    """Print where the replaced artifact is kept."""
    say(f"the earlier {what} is kept in {os.path.relpath(earlier)}")


def identity_of(lm: FrozenLM) -> dict[str, Any]:
    """Provenance fields for the model and the package version."""
    return {
        "model_id": lm.model_id,
        "clean_model_name": clean_name(lm.model_id),
        "model_commit": lm.model_commit,
        "tokenizer_commit": lm.tokenizer_commit,
        "project_version": project_version(),
        "git_sha": git_sha(),
    }


def dataset_of(consumed: ConsumedText, held_out_frac: float) -> provenance_schema.Dataset:
    """Provenance of the text consumed."""
    return provenance_schema.Dataset(
        repo_id=consumed.repo_id,
        name=consumed.name,
        split=consumed.split,
        revision=consumed.commit or consumed.revision,
        sample_description=consumed.sample_description,
        content_hash=consumed.content_hash,
        documents=consumed.documents,
        held_out_frac=held_out_frac,
        format=consumed.format,
        special_tokens=consumed.special_tokens,
        added_tokens=consumed.added_tokens,
    )


def precision_of(lm: FrozenLM, head: Head) -> provenance_schema.Precision:
    """Provenance of the dtypes used in computation."""
    return provenance_schema.Precision(
        model=_format_name(lm.dtype), unembed=_format_name(head.unembedding.weight.dtype), loss="float32"
    )


def _what_was_read(
    data: TrainingText, counts: Counts, consumed: ConsumedText, world_size: int, grad_accum: int
) -> dict[str, Any]:
    per_sequence, rest = divmod(counts.positions, counts.sequences)
    assert rest == 0, "every sequence has the same number of positions"
    return {
        "dataset": dataset_of(consumed, data.settings.held_out_frac),
        "budget": provenance_schema.Budget(
            tokens=consumed.tokens,
            tokens_asked=int(data.settings.tokens),
            tokens_trained=counts.tokens,
            passes=data.settings.passes,
            seq_len=data.settings.seq_len,
            positions_per_seq=per_sequence,
            position_range=data.settings.drawn_range,
        ),
        "batching": provenance_schema.BatchSizes(
            micro_batch_seqs=int(data.settings.micro_batch_seqs),
            grad_accum=grad_accum,
            effective_batch_seqs=counts.most_sequences_per_step,
            fewest_batch_seqs=counts.fewest_sequences_per_step,
            world_size=world_size,
        ),
    }


def _how(module: TuningModule, translators: Translators, counts: Counts) -> dict[str, Any]:
    return {
        "capacity": capacity_of(translators),
        "schedule": module.schedule,
        "layers_per_step": counts.most_rows_per_step,
        "temperature": temperature_of(translators, enabled=module.settings.temperature),
        "regularizers": provenance_schema.Regularizers(
            l2=float(module.settings.l2), smoothness=float(module.settings.smoothness)
        ),
        "preconditioner": provenance_schema.Preconditioner("whitened", None, DAMPING) if module.in_basis else None,
        "init": provenance_schema.Init("random", 0, 0, 0, [])
        if module.start is None
        else provenance_schema.Init("closed_form", *module.start),
        "precision": precision_of(module.frozen, module.head),
    }


def _format_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def ending(provenance: Provenance, start: Validated | None, best_step: Validated | None) -> str:
    """How the fit ended; if the exported lens is the initialisation, also why, and what to try.

    Args:
        provenance: Provenance of the lens.
        start: Validation of the start.
        best_step: Best validation after a step.
    """
    optim, budget = provenance.optim, provenance.budget
    outcome = "stopped early after" if optim.stopped_early else "done:"
    trained = "" if budget.tokens_trained == budget.tokens else f" ({budget.tokens_trained:,} trained on)"
    said = (
        f"{outcome} {optim.steps_done} of {optim.total_steps} steps, {budget.tokens:,} tokens{trained}, "
        f"{provenance.dataset.documents:,} documents; exported step {optim.exported_step}, the best validation."
    )
    if optim.exported_step > 0:
        return said
    assert start is not None
    assert best_step is not None  # the last step is always validated
    return (
        f"{said}\nThis is the initialisation: no validation improved on it. The mean KL at 25, 50 and 75% depth was "
        f"{start.kl_bits:.4f} bits at the start and afterwards {best_step.kl_bits:.4f} bits at best, after step "
        f"{best_step.step}. Validate more often (--data.validate_every_steps), take smaller steps (--model.lr below "
        f"{optim.lr:g}), or give more text (--data.tokens)."
    )


COURSES: dict[str, str] = {
    "average": "linear warm-up, then constant; of the weights the average over all steps, each weighted by its number",
    "cosine": "linear warm-up, cosine to 0",
}


def _optim(module: TuningModule, total: int, steps_done: int, exported_step: int) -> provenance_schema.Optim:
    return provenance_schema.Optim(
        lr=float(module.settings.lr),
        betas=module.settings.betas,
        weight_decay=module.settings.weight_decay,
        schedule=COURSES[module.settings.anneal],
        total_steps=total,
        warmup_steps=warmup_steps(total),
        steps_done=steps_done,
        exported_step=exported_step,
        stopped_early=steps_done < total,
    )


def at_row(reading: Mapping[str, Float[Tensor, " rows"]], row: int) -> provenance_schema.MeanDivergence:
    """Provenance of the divergences of one lens at one row."""
    return provenance_schema.MeanDivergence(
        kl_to_final_bits=float(reading["kl_to_final_bits"][row]),
        kl_from_final_bits=float(reading["kl_from_final_bits"][row]),
        top1_agree_frac=float(reading["top1_agree"][row]),
    )


def _at_percentiles(readings: Readings, num_blocks: int) -> dict[str, provenance_schema.PercentileKl]:
    return {
        str(percentile): provenance_schema.PercentileKl(
            row, *(at_row(readings[lens], row) for lens in ("norm", "tuned"))
        )
        for percentile, row in depth_percentile_rows(num_blocks).items()
    }
