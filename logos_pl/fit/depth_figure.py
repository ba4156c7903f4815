"""TensorBoard output of every validation: a figure of KL against depth, and scalars of every row."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure

from logos_pl.fit.module import TuningModule
from logos_pl.kinds.registry import kind_of
from logos_pl.modules.base import Readings


class DepthFigure(Callback):
    """Adds a figure of KL against depth, and every row's KL and temperature, to TensorBoard after each validation."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the results of the validation."""
        assert isinstance(pl_module, TuningModule)
        if trainer.sanity_checking or not isinstance(trainer.logger, TensorBoardLogger) or not trainer.is_global_zero:
            return
        writer = trainer.logger.experiment
        writer.add_figure("val/kl_against_depth", kl_against_depth(pl_module.validation), trainer.global_step)
        tau = 1.0 / pl_module.average("translators").inv_tau(None)
        for row, value in enumerate(tau.tolist(), start=1):
            writer.add_scalar(f"tau/row_{row:02d}", value, trainer.global_step)
        for lens, reading in pl_module.validation.items():
            for row, value in enumerate(reading["kl_from_final_bits"].tolist()):
                writer.add_scalar(f"val_kl_from_final_bits/{lens}_row_{row:02d}", value, trainer.global_step)


def kl_against_depth(readings: Readings) -> Figure:
    """Mean held-out KL in bits at every row, one line per lens, both directions of the divergence."""
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, reading in readings.items():
        for quantity, style, label in (
            ("kl_from_final_bits", "-o", "KL(final ‖ row)"),
            ("kl_to_final_bits", "--", "KL(row ‖ final)"),
        ):
            axes.plot(
                reading[quantity].tolist(),
                style,
                color=kind_of(name).colour,
                markersize=4,
                label=f"{name}: {label}",
            )
    axes.set_xlabel("row (0: input of the first block)")
    axes.set_ylabel("mean KL divergence on held-out text, bits")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
