"""`logos-pl jacobian`: fit a Jacobian lens."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from logos_pl.cli.command import MACHINE, MODELS, SCHEDULE, SEED, WATCHING, Command
from logos_pl.cli.plan import plan_text
from logos_pl.data.training_text import TrainingText
from logos_pl.errors import InputError
from logos_pl.fit.jacobian import JacobianModule
from logos_pl.fit.jacobian_export import JacobianExport
from logos_pl.functional.schedules import SPEC_BATCH_SEQS
from logos_pl.settings.jacobian import JacobianSettings
from logos_pl.settings.model import ModelSettings
from logos_pl.settings.text import JacobianTextSettings, TrainingTextSettings


class Jacobian(Command):
    """Fits a Jacobian lens and writes its artifact."""

    name = "jacobian"
    groups: ClassVar = {"model": ModelSettings, "data": JacobianTextSettings, "jacobian": JacobianSettings}
    options: ClassVar = {"schedule": SCHEDULE, "seed_everything": SEED, "models": MODELS}
    trainer_options = MACHINE | WATCHING

    text: TrainingTextSettings

    def prepare(self) -> None:
        """Plan the run.

        Raises:
            InputError: The options are inconsistent or do not fit the model or the machine.
        """
        model, given = self.settings["model"], self.settings["jacobian"]
        if model.placement in ("streamed", "sharded"):
            raise InputError(
                f"--model.placement {model.placement} has no backward pass, which jacobian needs: use resident, or a "
                "smaller model."
            )
        text = jacobian_budget(given, self.settings["data"])
        resident = replace(model, placement="resident")
        self.plan, self.model, self.text = plan_text(
            resident, text, self.config.schedule, self.config.trainer, graph=True
        )
        if self.plan.world_size > 1:
            raise InputError("jacobian runs in one process: give --trainer.devices 1.")

    def make(self) -> tuple[LightningModule, LightningDataModule]:
        """Return the module and the data module of the run."""
        seed, model = self.config.seed_everything, self.model
        text = TrainingText(self.text, model.model_id, model.revision, seed, model.gguf)
        return JacobianModule(model, self.settings["jacobian"], seed), text

    def trainer_parts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the callback; the run is one epoch."""
        folder = Path(self.settings["jacobian"].folder) / self.plan.known.clean_name
        return {
            "callbacks": [JacobianExport(folder)],
            "max_epochs": 1,  # validation ends the epoch, after all sequences
            "num_sanity_val_steps": 0,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
        }

    def run(self, trainer: Trainer, module: LightningModule, data: LightningDataModule) -> None:
        """Fit the Jacobian lens; the callback resumes an unfinished fit."""
        trainer.fit(module, datamodule=data)


def jacobian_budget(jacobian: JacobianSettings, text: JacobianTextSettings) -> TrainingTextSettings:
    """Return the text options for the sequences of a Jacobian fit, with one validation at the end.

    Raises:
        InputError: No position of a sequence is left.
    """
    if jacobian.skip_first >= text.seq_len - 1:
        raise InputError(
            f"--jacobian.skip_first {jacobian.skip_first} leaves no position of a sequence of --data.seq_len "
            f"{text.seq_len}, whose last is always skipped: use longer sequences, or skip fewer positions."
        )
    batch_seqs = min(SPEC_BATCH_SEQS, jacobian.sequences)
    if text.micro_batch_seqs != "auto":
        batch_seqs = -(-batch_seqs // text.micro_batch_seqs) * text.micro_batch_seqs
    steps = -(-jacobian.sequences // batch_seqs)
    return text.as_training(tokens=steps * batch_seqs * text.seq_len, batch_seqs=batch_seqs, validate_every_steps=steps)


COMMAND = Jacobian
