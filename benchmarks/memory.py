"""Peak memory of the two losses beyond their inputs: CUDA's own count, or on Linux what the process really held.

On the CPU each measurement is a process of its own, so that nothing freed earlier is used again: its resident memory
before, its highest resident memory (VmHWM) after.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from benchmarks.loss import LOSSES, LossSetting, make_inputs
from logos_pl.errors import InputError, RunError

STATUS = Path("/proc/self/status")
# Logits of all pairs, in fp32, that the naive loss is granted when it is asked whether it fits.
NAIVE_COPIES = 6.5


class LossMemory(NamedTuple):
    """Peak bytes beyond the inputs at one vocabulary; the naive loss's is None where it did not fit."""

    vocab: int
    logits_bytes: int
    fused_bytes: int
    naive_bytes: int | None


def measure_memory(setting: LossSetting, vocab: int, device: torch.device, dtype: torch.dtype) -> LossMemory:
    """Both losses, one after the other, each on memory of its own.

    Raises:
        InputError: Memory cannot be measured on this device.
        RunError: A measuring process died.
    """
    logits = setting.rows * setting.positions * vocab * 4
    fused = _peak("fused", setting, vocab, device, dtype)
    naive = None
    if logits * NAIVE_COPIES < _free_bytes(device):
        naive = _peak("naive", setting, vocab, device, dtype)
    return LossMemory(vocab, logits, fused, naive)


def _free_bytes(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def _peak(name: str, setting: LossSetting, vocab: int, device: torch.device, dtype: torch.dtype) -> int:
    if device.type == "cuda":
        return peak_on_cuda(name, setting, vocab, device, dtype)
    if device.type != "cpu" or not STATUS.is_file():
        raise InputError("Peak memory is measured on CUDA and on Linux only: take the figures there.")
    numbers = [setting.d_head, setting.rows, setting.positions, vocab, torch.get_num_threads()]
    command = [sys.executable, "-m", "benchmarks.memory", name, *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    if done.returncode != 0:
        raise RunError(f"Measuring the memory of the {name} loss failed: {' '.join(done.stderr.splitlines()[-1:])}")
    return int(json.loads(done.stdout))


def peak_on_cuda(name: str, setting: LossSetting, vocab: int, device: torch.device, dtype: torch.dtype) -> int:
    """What the allocator handed out at most, beyond what it had handed out before."""
    LOSSES[name](make_inputs(setting, 64, device, dtype))  # library workspaces are nobody's logits
    inputs = make_inputs(setting, vocab, device, dtype)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    LOSSES[name](inputs)
    return torch.cuda.max_memory_allocated(device) - before


def peak_in_this_process(name: str, setting: LossSetting, vocab: int) -> int:
    """Highest resident memory during the loss, beyond that before; once per process."""
    cpu = torch.device("cpu")
    LOSSES[name](make_inputs(setting, 64, cpu, torch.float32))  # library workspaces and code are nobody's logits
    inputs = make_inputs(setting, vocab, cpu, torch.float32)
    before = _status("VmRSS")
    LOSSES[name](inputs)
    return _status("VmHWM") - before


def _status(key: str) -> int:
    """A size of this process, in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key + ":"))
    return int(line.split()[1]) * 1024


def main(name: str, d_head: str, rows: str, positions: str, vocab: str, threads: str) -> None:
    """Print the peak, in bytes."""
    torch.set_num_threads(int(threads))
    setting = LossSetting(d_head=int(d_head), rows=int(rows), positions=int(positions))
    print(peak_in_this_process(name, setting, int(vocab)))


if __name__ == "__main__":
    main(*sys.argv[1:])
