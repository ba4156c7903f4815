"""The processes of a run do the same, or refuse to; and none is left waiting for one that has failed."""

import atexit
import signal
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from logos_pl.agreement import refuse_different
from logos_pl.errors import LogosError
from logos_pl.modules.base import LensModule


class SameRun(Callback):
    """Compares what each process has settled for itself, before any result depends on it.

    Each has read the configuration, looked at devices and folders and asked the Hub on its own; where two came to
    something else, they would wait for each other without end, or add up what does not belong together.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare.

        Raises:
            RunError: In every process, naming what differs.
        """
        refuse_different(_settled(trainer, pl_module))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare, where the validation is the run.

        Raises:
            RunError: In every process, naming what differs.
        """
        if trainer.state.fn == TrainerFn.VALIDATING:
            refuse_different(_settled(trainer, pl_module))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare.

        Raises:
            RunError: In every process, naming what differs.
        """
        refuse_different(_settled(trainer, pl_module))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End the processes that this one has started, unless they fail with it: they would wait for it.

        The other way round, Lightning sees to it. It would end this one, too, if it saw them go, so they go last.
        """
        launcher = trainer.strategy.launcher
        if launcher is not None and not (isinstance(exception, LogosError) and exception.everywhere):
            atexit.register(launcher.kill, signal.SIGKILL)  # nothing less reaches a process that waits for another


def _settled(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """What has to be the same in every process, by name."""
    assert isinstance(module, LensModule)
    return {
        "the checkpoint": trainer.ckpt_path,
        "max_steps": trainer.max_steps,
        "grad_accum": trainer.accumulate_grad_batches,
        **trainer.datamodule.same_in_all(),  # type: ignore[attr-defined]
        **module.identity(),
    }
