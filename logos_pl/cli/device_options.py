"""Devices, machines and processes that the Trainer's options ask for."""

from typing import Any

from logos_pl.errors import InputError

MOST_DEVICES = 1024
"""Maximum number of devices per machine; larger numbers are rejected as mistakes."""
PROCESSES_PER_PROCESSOR = 4
"""Maximum number of processes per processor on a CPU; a few are useful for trying a multi-process run."""


def world_size_of(trainer: Any) -> int:
    """Number of processes that `--trainer.devices` and `--trainer.num_nodes` start.

    Raises:
        InputError: `devices` is not a positive number, a list of devices, or `auto`.
    """
    devices = device_indices(trainer)
    return (1 if devices is None else len(devices)) * num_nodes_of(trainer)


def check_processes(processes: int, processors: int) -> None:
    """Check that the CPU is not given far too many processes, each of which needs memory of its own.

    Raises:
        InputError: There are more than four per processor.
    """
    most = PROCESSES_PER_PROCESSOR * processors
    if processes > most:
        raise InputError(
            f"--trainer.devices starts {processes:,} processes, but this machine has {processors} "
            f"processor{'s' * (processors != 1)}: give at most {most}."
        )


def num_nodes_of(trainer: Any) -> int:
    """Number of machines; 1 if the command has no such option."""
    return int(getattr(trainer, "num_nodes", 1))


def device_indices(trainer: Any) -> list[int] | None:
    """Device indices of one machine by `--trainer.devices`; None for `auto`.

    Raises:
        InputError: The option is not a positive number, a list of devices, or `auto`.
    """
    devices = trainer.devices
    if devices == "auto":
        return None
    if isinstance(devices, str) and ("," in devices or devices.startswith("[")):
        devices = [part.strip() for part in devices.strip("[]").split(",") if part.strip()]
    count = int(devices) if str(devices).isdigit() else 0
    listed = devices if isinstance(devices, list) else range(count if count <= MOST_DEVICES else 0)
    if not listed or not all(str(device).isdigit() for device in listed):
        raise InputError(
            f"--trainer.devices must be a positive number or device indices, such as 0,1 (got {trainer.devices})."
        )
    return [int(device) for device in listed]
