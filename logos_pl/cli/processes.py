"""Rank and number of processes, from the environment variables of torchrun, SLURM or Lightning.

Imports only light modules: variables are checked before Lightning is imported, which reads the rank at import.
"""

import os

from logos_pl.errors import InputError

NUMBERS = (
    "RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_PORT", "STANDALONE_PORT",
    "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS",
    "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_SIZE",
)  # fmt: skip
"""Launcher variables that must be numbers."""

OF_TORCHRUN = ("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE")
OF_SLURM = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")
"""Launcher variables that Lightning reads in a launched process."""


def check_launcher() -> None:
    """Check the launcher's variables.

    Raises:
        InputError: A variable is not a number, or is missing although another is set.
    """
    for name in NUMBERS:
        value = os.environ.get(name)
        if value is not None and not _is_number(value):
            raise InputError(
                f"The environment variable {name} must be a number (got {value!r}): unset it, or start the command "
                "with torchrun or srun."
            )
    sign, needed = ("TORCHELASTIC_RUN_ID", OF_TORCHRUN) if _in_torchrun() else ("SLURM_NTASKS", OF_SLURM)
    missing = [name for name in needed if name not in os.environ]
    if missing and (_in_torchrun() or _in_slurm()):
        raise InputError(
            f"The environment variable {sign} is set, but {missing[0]} is not: unset it, or start the command with "
            f"{'torchrun' if _in_torchrun() else 'srun'}."
        )


def is_first_process() -> bool:
    """Whether this process has global rank 0, the one that writes and prints.

    Usable before Lightning has formed the process group. As in Lightning, torchrun takes precedence over SLURM, since
    it may run inside SLURM.
    """
    if _in_torchrun():
        return _number("RANK") == 0
    if _in_slurm():
        return _number("SLURM_PROCID") == 0
    node = "NODE_RANK" if "NODE_RANK" in os.environ else "GROUP_RANK"
    return _number(node) == 0 and _number("LOCAL_RANK") == 0


def refuse_other_count(world_size: int) -> None:
    """Check that an external launcher has started as many processes as the options say.

    Lightning checks this only for processes that it starts itself. Otherwise every process would run alone, and all
    would write the same files.

    Args:
        world_size: Number of processes by `--trainer.devices` and `--trainer.num_nodes`.

    Raises:
        InputError: The launcher has started another number.
    """
    launcher, started = "", None
    if _in_torchrun():
        launcher, started = "torchrun", _number("WORLD_SIZE")
    elif _in_slurm() and "SLURM_STEP_NUM_TASKS" in os.environ:
        launcher, started = "srun", _number("SLURM_STEP_NUM_TASKS")
    if started not in (None, world_size):
        raise InputError(
            f"{launcher} has started {started} process(es), but --trainer.devices times --trainer.num_nodes is "
            f"{world_size}: give the devices of each node, and the number of nodes."
        )


def refuse_nodes_without_address(num_nodes: int) -> None:
    """Check that the processes of several machines can find each other.

    Otherwise Lightning listens on a free port of this machine, and waits for half an hour.

    Raises:
        InputError: Several machines, without a launcher, and a variable that it would set is missing.
    """
    launched = _in_torchrun() or _in_slurm() or "JSM_NAMESPACE_SIZE" in os.environ
    node = "GROUP_RANK" if "GROUP_RANK" in os.environ else "NODE_RANK"
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", node) if name not in os.environ]
    if num_nodes > 1 and not launched and missing:
        raise InputError(
            f"--trainer.num_nodes is {num_nodes}, but the environment variable {missing[0]} is not set: start the "
            "command with torchrun or srun, or set MASTER_ADDR, MASTER_PORT and NODE_RANK on every node."
        )


def nodes_awaited(num_nodes: int) -> str | None:
    """A line for the user before the processes of several machines meet; None for a single machine."""
    if num_nodes == 1:
        return None
    first = os.environ.get("MASTER_ADDR")
    return f"waiting for the processes of {num_nodes} nodes" + (f" to meet at {first}" if first else "")


def _in_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def _in_slurm() -> bool:
    """Whether SLURM assigns the ranks; as in Lightning, not in an interactive job."""
    return "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")


def _number(name: str) -> int:
    """Value of a launcher variable; 0 if missing or not a number, which `check_launcher` rejects."""
    value = os.environ.get(name, "")
    return int(value) if _is_number(value) else 0


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) < 10
