"""Which process of a run this is, and how many were started: read from what torchrun, SLURM or Lightning leaves.

Knows no library: what is no number is refused before Lightning is loaded, which reads a rank at once.
"""

import os

from logos_pl.errors import InputError

NUMBERS = (
    "RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_PORT", "STANDALONE_PORT",
    "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS",
    "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_SIZE",
)  # fmt: skip
"""Variables of launchers that Lightning or this module takes as numbers."""

OF_TORCHRUN = ("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE")
OF_SLURM = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")
"""Those that Lightning reads of a process that they have started."""


def check_launcher() -> None:
    """Refuse what numbers no process.

    Raises:
        InputError: A launcher's variable is no number, or missing beside another.
    """
    for name in NUMBERS:
        value = os.environ.get(name)
        if value is not None and not _is_number(value):
            raise InputError(
                f"The environment variable {name} must be a number (got {value!r}): unset it, or start the command by "
                "torchrun or srun."
            )
    sign, needed = ("TORCHELASTIC_RUN_ID", OF_TORCHRUN) if _in_torchrun() else ("SLURM_NTASKS", OF_SLURM)
    missing = [name for name in needed if name not in os.environ]
    if missing and (_in_torchrun() or _in_slurm()):
        raise InputError(
            f"The environment variable {sign} is set and {missing[0]} is not: unset it, or start the command by "
            f"{'torchrun' if _in_torchrun() else 'srun'}."
        )


def is_first_process() -> bool:
    """Whether this is the process that writes and speaks: the first one of the first node.

    Asked before Lightning has formed the group, and answered as Lightning will: torchrun comes before SLURM, inside
    which it can be used.
    """
    if _in_torchrun():
        return _number("RANK") == 0
    if _in_slurm():
        return _number("SLURM_PROCID") == 0
    node = "NODE_RANK" if "NODE_RANK" in os.environ else "GROUP_RANK"
    return _number(node) == 0 and _number("LOCAL_RANK") == 0


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
    if _in_torchrun():
        launcher, started = "torchrun", _number("WORLD_SIZE")
    elif _in_slurm() and "SLURM_STEP_NUM_TASKS" in os.environ:
        launcher, started = "srun", _number("SLURM_STEP_NUM_TASKS")
    if started not in (None, world_size):
        raise InputError(
            f"{launcher} has started {started} process(es), and --trainer.devices times --trainer.num_nodes is "
            f"{world_size}: give the devices of each node, and the number of nodes."
        )


def _in_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def _in_slurm() -> bool:
    """Whether SLURM numbers the processes; in an interactive job it does not, as Lightning has it."""
    return "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")


def _number(name: str) -> int:
    """A launcher's number; 0 where it is missing or none, which `check_launcher` refuses."""
    value = os.environ.get(name, "")
    return int(value) if _is_number(value) else 0


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) < 10
