"""Peak memory of the two losses in addition to their inputs; on the CPU each in its own process."""

import sys
from typing import NamedTuple

import psutil
import torch

from benchmarks.loss import LOSSES, LossSetting, make_inputs
from benchmarks.peak import peak_here, peaks_apart

# Number of fp32 logits tensors assumed for the naive loss when checking whether it fits.
NAIVE_COPIES = 6.5


class LossMemory(NamedTuple):
    """Peak bytes in addition to the inputs at one vocabulary size; None for the naive loss if it does not fit."""

    vocab: int
    logits_bytes: int
    fused_bytes: int
    naive_bytes: int | None


def measure_memory(setting: LossSetting, vocab: int, device: torch.device, dtype: torch.dtype) -> LossMemory:
    """Measure both losses, one after the other, in fresh memory.

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
        return peak_of_loss(name, setting, vocab, device, dtype)
    numbers = [setting.d_head, setting.rows, setting.positions, vocab, torch.get_num_threads()]
    (peak,) = peaks_apart("benchmarks.memory", [name, *map(str, numbers)], device)
    return peak


def peak_of_loss(name: str, setting: LossSetting, vocab: int, device: torch.device, dtype: torch.dtype) -> int:
    """Measure in this process, in addition to the inputs."""
    LOSSES[name](make_inputs(setting, 64, device, dtype))  # excludes library workspaces and code from the measurement
    inputs = make_inputs(setting, vocab, device, dtype)
    return peak_here(lambda: LOSSES[name](inputs), device)


def main(name: str, d_head: str, rows: str, positions: str, vocab: str, threads: str) -> None:
    """Print the peak, in bytes."""
    torch.set_num_threads(int(threads))
    setting = LossSetting(d_head=int(d_head), rows=int(rows), positions=int(positions))
    print(peak_of_loss(name, setting, int(vocab), torch.device("cpu"), torch.float32))


if __name__ == "__main__":
    main(*sys.argv[1:])
