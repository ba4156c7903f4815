"""The machine the figures come from, and plain matrix products as the measure of what it can do."""

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
# More rows than this make a product no faster, only larger.
MAX_PRODUCT_ROWS = 4096


class Machine(NamedTuple):
    """Where and when the figures were taken.

    Attributes:
        cpu: Its model.
        cores: Cores this process may use.
        threads: Threads torch uses.
        load_average_before: Runnable processes over the last minute, before the first measurement: other people's work.
        load_average_after: The same after the last, this benchmark included.
        device: Where the model ran.
        torch: Version.
        transformers: Version.
        commit: Commit of this project, with ``-dirty`` where files differ from it.
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
    """A plain product [m, k] @ [k, n]; its name tells it from others of the same run."""

    m: int
    k: int
    n: int
    dtype: torch.dtype

    @property
    def name(self) -> str:
        """For the tables."""
        return f"[{self.m}, {self.k}] @ [{self.k}, {self.n}] {short(self.dtype)}"

    @property
    def flop(self) -> int:
        """Floating-point operations."""
        return 2 * self.m * self.k * self.n

    def work(self, device: torch.device) -> Callable[[], object]:
        """The product on random matrices."""
        a = torch.randn(self.m, self.k, device=device).to(self.dtype)
        b = torch.randn(self.n, self.k, device=device).to(self.dtype).T  # as an unembedding is laid out
        return lambda: a @ b


def products(m: int, k: int, n: int, dtype: torch.dtype, device: torch.device) -> list[Product]:
    """The products whose better rate counts as the peak: one shaped like the work itself, one large square."""
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
    """Of the last minute."""
    return os.getloadavg()[0]


def describe(device: torch.device, load_before: float) -> Machine:
    """This machine, now."""
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
