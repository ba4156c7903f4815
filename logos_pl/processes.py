"""Which process of a run this is, and how many were started: read from what torchrun, SLURM or Lightning leaves."""

import os

from lightning.fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment

from logos_pl.errors import InputError


def is_first_process() -> bool:
    """Whether this is the process that writes and speaks: the first one of the first node.

    Asked before Lightning has formed the group, and answered as Lightning will: torchrun comes before SLURM, inside
    which it can be used.
    """
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment().global_rank() == 0
    if _in_slurm():
        return int(os.environ.get("SLURM_PROCID", "0")) == 0
    own = LightningEnvironment()
    return own.node_rank() == 0 and own.local_rank() == 0


def refuse_other_count(world_size: int) -> None:
    """Make sure that a launcher from outside has started as many processes as the run asks for.

    Lightning compares the two only where it starts them itself; elsewhere each process would take itself for the whole
    run, and all of them would write the same files.

    Args:
        world_size: Processes that `--trainer.devices` and `--trainer.num_nodes` ask for.

    Raises:
        InputError: It has started another number.
    """
    launcher, started = "", None
    if TorchElasticEnvironment.detect():
        launcher, started = "torchrun", TorchElasticEnvironment().world_size()
    elif _in_slurm() and "SLURM_STEP_NUM_TASKS" in os.environ:
        launcher, started = "srun", int(os.environ["SLURM_STEP_NUM_TASKS"])
    if started not in (None, world_size):
        raise InputError(
            f"{launcher} has started {started} process(es), and --trainer.devices times --trainer.num_nodes is "
            f"{world_size}: give the devices of each node, and the number of nodes."
        )


def _in_slurm() -> bool:
    """Whether SLURM numbers the processes; in an interactive job it does not, as Lightning has it."""
    return "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")
