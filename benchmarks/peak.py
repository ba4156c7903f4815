"""Peak memory of a function: CUDA's count, or the resident memory of the process on Linux.

On the CPU each measurement is a separate process, so that no memory freed earlier is reused: peak resident memory
(VmHWM) minus resident memory before.
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
    """Peak bytes in addition to those held before; on the CPU, in a process that `peaks_apart` started."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    CLEAR.write_text("5")  # resets the peak, as loading a model may take more than running it
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def peaks_apart(module: str, arguments: Sequence[str], device: torch.device) -> list[int]:
    """Run a module in a child process, which measures with `peak_here`, and return the numbers it prints.

    Raises:
        InputError: Memory cannot be measured on this device.
        RunError: The process died.
    """
    if device.type != "cpu" or not STATUS.is_file():
        raise InputError("Peak memory is measured on CUDA and on Linux only: take the figures there.")
    command = [sys.executable, "-m", module, *arguments]
    # The child keeps the working folder, for relative paths in the arguments, so the project must be on its path.
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    # Makes glibc return large freed blocks to the system, so that the next measurement does not reuse them.
    environment = os.environ | {"PYTHONPATH": path, "MALLOC_MMAP_THRESHOLD_": str(2**16)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        last = " ".join(done.stderr.splitlines()[-1:])
        raise RunError(f"Measuring the memory of {module} {arguments[0]} failed: {last}")
    return [int(word) for word in done.stdout.split()]


def _status(key: str) -> int:
    """A memory size of this process, in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key + ":"))
    return int(line.split()[1]) * 1024
