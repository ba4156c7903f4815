"""Peak memory of a piece of work: CUDA's own count, or on Linux what the process really held.

On the CPU each measurement is a process of its own, so that nothing freed earlier is used again: its resident memory
before, its highest resident memory (VmHWM) after.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from logos_pl.errors import InputError, RunError

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
ROOT = Path(__file__).parents[1]


def peak_here(work: Callable[[], object], device: torch.device) -> int:
    """Most bytes the work held beyond what was held before; on the CPU, in a process that `peaks_apart` started."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    CLEAR.write_text("5")  # the highest from now on: loading a model may have taken more than running it
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def peaks_apart(module: str, arguments: Sequence[str], device: torch.device) -> list[int]:
    """The numbers that a module prints which is run in a process of its own, where `peak_here` counts.

    Raises:
        InputError: Memory cannot be measured on this device.
        RunError: The process died.
    """
    if device.type != "cpu" or not STATUS.is_file():
        raise InputError("Peak memory is measured on CUDA and on Linux only: take the figures there.")
    command = [sys.executable, "-m", module, *arguments]
    # Paths among the arguments are relative to the caller's folder, so that the project has to be found otherwise.
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    # So that glibc hands large pieces back when they are freed, and the next measurement finds none to use again.
    environment = os.environ | {"PYTHONPATH": path, "MALLOC_MMAP_THRESHOLD_": str(2**16)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        last = " ".join(done.stderr.splitlines()[-1:])
        raise RunError(f"Measuring the memory of {module} {arguments[0]} failed: {last}")
    return [int(word) for word in done.stdout.split()]


def _status(key: str) -> int:
    """A size of this process, in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key + ":"))
    return int(line.split()[1]) * 1024
