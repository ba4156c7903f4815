"""The machine of the measurements, and its peak rate by plain matrix products."""

import os
import platform
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from benchmarks.timing import Times
from logos_pl.artifacts.environment import environment, git_sha

SQUARE = {"cpu": 2048, "mps": 4096, "cuda": 8192}
# More rows do not make a product faster.
MAX_PRODUCT_ROWS = 4096


class Machine(NamedTuple):
    """Machine and time of the measurements.

    Attributes:
        cpu: CPU model.
        cores: Cores this process may use.
        threads: Threads torch uses.
        load_average_before: Load average over a minute before the first measurement: other processes.
        load_average_after: The same after the last one, with this benchmark.
        device: Device of the model.
        torch: Version.
        transformers: Version.
        commit: Commit of this project, with ``-dirty`` if files differ from it.
    """

    cpu: str
    cores: int
    threads: int
    load_average_before: float
    load_average_after: float
    device: str
    torch: str
    transformers: str
    commit: str | None


class Product(NamedTuple):
    """A matrix product [m, k] @ [k, n] with a name that is unique in the run."""

    m: int
    k: int
    n: int
    dtype: torch.dtype

    @property
    def name(self) -> str:
        """Description for the tables."""
        return f"[{self.m}, {self.k}] @ [{self.k}, {self.n}] {short(self.dtype)}"

    @property
    def flop(self) -> int:
        """Floating-point operations."""
        return 2 * self.m * self.k * self.n

    def work(self, device: torch.device) -> Callable[[], object]:
        """The product on random matrices."""
        a = torch.randn(self.m, self.k, device=device).to(self.dtype)
        b = torch.randn(self.n, self.k, device=device).to(self.dtype).T  # layout of an unembedding
        return lambda: a @ b


def products(m: int, k: int, n: int, dtype: torch.dtype, device: torch.device) -> list[Product]:
    """Products whose better rate is taken as the peak: one shaped like the workload and one large square."""
    size = SQUARE[device.type]
    return [Product(min(m, MAX_PRODUCT_ROWS), k, n, dtype), Product(size, size, size, dtype)]


def peaks_flop_per_s(done: Iterable[Product], times: Times) -> dict[str, float]:
    """The best measured rate of each number format."""
    rates: dict[str, float] = {}
    for product in done:
        rate = product.flop / median(times[product.name])
        rates[short(product.dtype)] = max(rate, rates.get(short(product.dtype), 0.0))
    return rates


def short(dtype: torch.dtype) -> str:
    """The name of a number format."""
    return str(dtype).removeprefix("torch.")


def load_average() -> float:
    """Load average over the last minute."""
    return os.getloadavg()[0]


def describe(device: torch.device, load_before: float) -> Machine:
    """Describe this machine."""
    software = environment(device)
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        load_average_before=load_before,
        load_average_after=load_average(),
        device=software.device,
        torch=software.torch,
        transformers=software.transformers,
        commit=git_sha(),
    )


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
