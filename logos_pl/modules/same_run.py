"""Checks that all processes of a run agree, and ends the others when one fails."""

import atexit
import signal
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from logos_pl.agreement import refuse_different
from logos_pl.errors import LogosError
from logos_pl.modules.base import LensModule


class SameRun(Callback):
    """Compares the values that each process has resolved, before they affect a result.

    Each process reads the configuration, inspects devices and folders and queries the Hub by itself. If results
    differed, processes would wait for each other forever or reduce values of different runs.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the processes.

        Raises:
            RunError: They differ; raised in every process.
        """
        refuse_different(_common_values(trainer, pl_module))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the processes of `validate`.

        Raises:
            RunError: They differ; raised in every process.
        """
        if trainer.state.fn == TrainerFn.VALIDATING:
            refuse_different(_common_values(trainer, pl_module))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the processes.

        Raises:
            RunError: They differ; raised in every process.
        """
        refuse_different(_common_values(trainer, pl_module))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Kill the processes launched by this one at exit, unless they fail too, since they would wait for it.

        If a launched process fails, Lightning ends this one. They are killed last, so that Lightning does not notice.
        """
        launcher = trainer.strategy.launcher
        if launcher is not None and not (isinstance(exception, LogosError) and exception.everywhere):
            atexit.register(launcher.kill, signal.SIGKILL)  # a process waiting in a collective ignores other signals


def _common_values(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """Values that must agree in all processes, by name."""
    assert isinstance(module, LensModule)
    return {
        "the checkpoint": trainer.ckpt_path,
        "max_steps": trainer.max_steps,
        "grad_accum": trainer.accumulate_grad_batches,
        **trainer.datamodule.same_in_all(),  # type: ignore[attr-defined]
        **module.identity(),
    }
