"""Data for a bug report: versions, devices, memory, Hub, cache and switches, and which models fit.

Only `ask_hub_who` uses the network. What cannot be determined is recorded with the reason.
"""

import os
import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import psutil
from huggingface_hub import HfApi, constants, get_token

from logos_pl.errors import InputError, LogosError, first_sentence
from logos_pl.io.hub_errors import HubRequest, explaining

if TYPE_CHECKING:  # torch may be what is broken
    from logos_pl.lm.devices import DeviceMemory
    from logos_pl.lm.memory import ModelShape, StepSize

PACKAGES = ("torch", "transformers", "lightning", "datasets", "huggingface-hub", "tokenizers", "safetensors", "numpy")

OPTIONAL = ("gguf", "accelerate", "peft", "bitsandbytes", "compressed-tensors", "gptqmodel")
"""Packages of quantised models and adapters, shown where they are installed."""

SWITCHES = (
    "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS",
    "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ENABLE_MPS_FALLBACK", "NO_COLOR", "TERM", "LC_ALL",
)  # fmt: skip
"""Environment variables that are shown with their value."""

ADDRESSES = ("HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
"""Environment variables of which only the host is shown, as they may hold a password."""

PUBLIC_MODEL = "openai-community/gpt2"
"""Model that the Hub is asked for if there is no token."""


class Device(NamedTuple):
    """A device with its memory in bytes."""

    name: str
    product: str | None
    free_bytes: int
    total_bytes: int


class Fit(NamedTuple):
    """Where a model runs according to the memory estimate; None if it fits nowhere.

    Attributes:
        model_id: The model.
        to_fit: Device and number format for fitting a lens with the defaults.
        to_read: The same for reading prompts.
    """

    model_id: str
    to_fit: str | None
    to_read: str | None


class Hub(NamedTuple):
    """Access to the Hub.

    Attributes:
        token: Where the token comes from; None: there is none. The token itself is never recorded.
        offline: Whether huggingface_hub is in offline mode.
        cache: Folder of the cache.
        cache_free_bytes: Free disk space there; None if unknown.
        answer: Whether the Hub answered, in words; None if it was not asked.
    """

    token: str | None
    offline: bool
    cache: str
    cache_free_bytes: int | None
    answer: str | None


class Diagnosis(NamedTuple):
    """All data of the report.

    Attributes:
        versions: Versions by package; None: not installed.
        commit: Commit of the checkout, with `-dirty` if files differ; None if installed otherwise.
        python: Version of Python.
        system: Operating system and architecture.
        cores: Logical cores.
        host_free_bytes: Free host memory.
        host_total_bytes: Host memory.
        devices: Devices in order of preference.
        device_error: Why devices could not be queried, else None.
        hub: Access to the Hub.
        switches: Environment variables that are set.
        fits: Where the models of the shipped configurations fit.
    """

    versions: dict[str, str | None]
    commit: str | None
    python: str
    system: str
    cores: int | None
    host_free_bytes: int
    host_total_bytes: int
    devices: list[Device]
    device_error: str | None
    hub: Hub
    switches: dict[str, str]
    fits: list[Fit]

    def to_plain(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return self._asdict() | {
            "devices": [device._asdict() for device in self.devices],
            "hub": self.hub._asdict(),
            "fits": [fit._asdict() for fit in self.fits],
        }


def diagnose(online: bool) -> Diagnosis:
    """Collect the data.

    Args:
        online: Also ask the Hub.
    """
    memory, devices, error = _devices()
    host = psutil.virtual_memory()
    return Diagnosis(
        versions={name: _version(name) for name in ("logos-pl", *PACKAGES, *OPTIONAL)},
        commit=_commit(),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cores=os.cpu_count(),
        host_free_bytes=host.available,
        host_total_bytes=host.total,
        devices=devices,
        device_error=error,
        hub=_hub(ask_hub_who() if online else None),
        switches=_switches(),
        fits=what_fits(memory) if memory else [],
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    try:
        from logos_pl.artifacts.environment import git_sha  # torch
    except (ImportError, OSError):
        return None
    return git_sha()


def _devices() -> tuple[Sequence["DeviceMemory"], list[Device], str | None]:
    """Memory of each device, the devices with their names, and why they could not be queried."""
    try:
        import torch

        from logos_pl.lm.devices import measure_memory

        memory = measure_memory()
        found = [
            Device(
                of.name,
                torch.cuda.get_device_name(of.name) if of.kind == "cuda" else None,
                of.free_bytes,
                of.total_bytes,
            )
            for of in memory
        ]
    except (ImportError, OSError, RuntimeError, InputError) as error:  # a broken driver or installation
        return [], [], first_sentence(error)
    return memory, found, None


def _hub(answer: str | None) -> Hub:
    token = None
    if get_token() is not None:
        token = "environment" if os.environ.get("HF_TOKEN") else constants.HF_TOKEN_PATH
    cache = Path(constants.HF_HUB_CACHE)
    return Hub(token, constants.is_offline_mode(), str(cache), _free_disk(cache), answer)


def _free_disk(folder: Path) -> int | None:
    """Free bytes of the disk that a folder is on, or will be."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), None)
    try:
        return None if there is None else shutil.disk_usage(there).free
    except OSError:
        return None


def _switches() -> dict[str, str]:
    shown = {name: os.environ[name] for name in SWITCHES if name in os.environ}
    return shown | {name: _host(os.environ[name]) for name in ADDRESSES if os.environ.get(name)}


def _host(address: str) -> str:
    """Host of an address, without user and password."""
    try:
        return urlsplit(address if "//" in address else f"//{address}").hostname or "set"
    except ValueError:
        return "set"


def ask_hub_who() -> str:
    """Whether the Hub accepts the token or, without one, answers a request for a public model, in words."""
    request = HubRequest("model", PUBLIC_MODEL, None)
    try:
        if get_token() is None:
            with explaining(request):
                HfApi().model_info(PUBLIC_MODEL, timeout=10)
            return "reachable without a token"
        with explaining(HubRequest("lenses", "the Hub")):
            return f"token accepted, user {HfApi().whoami()['name']}"
    except LogosError as error:
        return str(error)


def what_fits(memory: Sequence["DeviceMemory"]) -> list[Fit]:
    """Where each model of the shipped configurations runs, according to the estimate that chooses devices.

    Args:
        memory: Devices in order of preference.
    """
    from logos_pl.lm.known_shapes import KNOWN_SHAPES
    from logos_pl.lm.memory import StepSize

    return [
        Fit(model, _place(shape, memory, fit_step(shape)), _place(shape, memory, StepSize(rank=0)))
        for model, shape in KNOWN_SHAPES.items()
    ]


def fit_step(shape: "ModelShape") -> "StepSize":
    """The step of a fit with the defaults."""
    from logos_pl.functional.low_rank import default_rank
    from logos_pl.functional.schedules import SPEC_BATCH_SEQS, scheduled_positions
    from logos_pl.lm.memory import StepSize

    seq_len = StepSize().seq_len
    return StepSize(
        rank=default_rank(shape.d_model),
        positions_per_seq=scheduled_positions("full", shape.vocab_size, seq_len, SPEC_BATCH_SEQS)[0],
    )


def _place(shape: "ModelShape", memory: Sequence["DeviceMemory"], step: "StepSize") -> str | None:
    from logos_pl.lm.devices import choose_device

    try:
        choice = choose_device(shape, memory, step=step, placement="auto")
    except InputError:  # it fits nowhere
        return None
    streamed = ", streamed from disk" if choice.placement == "streamed" else ""
    return f"{choice.device} in {str(choice.dtype).removeprefix('torch.')}{streamed}"
