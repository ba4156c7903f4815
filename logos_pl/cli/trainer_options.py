"""Trainer options that a user may set, and the Lightning classes that a configuration may name."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

from lightning.pytorch import Callback, callbacks, loggers, profilers, strategies
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import environments
from lightning.pytorch.plugins.environments import ClusterEnvironment
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy

from logos_pl.bounds import check_number
from logos_pl.cli.device_options import MOST_DEVICES
from logos_pl.errors import InputError

CLASSES: dict[ModuleType, tuple[str, ...]] = {
    # Only those that monitor a run. Others change the training (and would falsify the provenance), replace callbacks of
    # this project, or take functions.
    callbacks: (
        "DeviceStatsMonitor",
        "EarlyStopping",
        "LearningRateMonitor",
        "ModelCheckpoint",
        "ModelSummary",
        "RichModelSummary",
        "SpikeDetection",
        "ThroughputMonitor",
        "Timer",
    ),
    loggers: ("CSVLogger", "CometLogger", "MLFlowLogger", "TensorBoardLogger", "WandbLogger"),
    # No plugins for precision (see --model.dtype) or checkpoints (the project has its own).
    environments: (
        "KubeflowEnvironment",
        "LSFEnvironment",
        "LightningEnvironment",
        "MPIEnvironment",
        "SLURMEnvironment",
        "TorchElasticEnvironment",
    ),
    profilers: ("AdvancedProfiler", "PassThroughProfiler", "PyTorchProfiler", "SimpleProfiler"),
    strategies: ("DDPStrategy", "SingleDeviceStrategy"),
}
"""Allowed classes by Lightning package."""

TAKES = {
    f"trainer.{option}": f"{others}classes among {', '.join(CLASSES[package])}, each as class_path with init_args"
    for option, others, package in (
        ("callbacks", "null, or ", callbacks),
        ("logger", "true, false, or ", loggers),
        ("plugins", "null, or ", environments),
        ("profiler", "simple, advanced, pytorch, or ", profilers),
        ("strategy", "auto, ddp, or ", strategies),
    )
} | {"trainer.accelerator": "a name: auto, cpu, gpu, cuda or mps"}
"""Description of the values that an option with classes accepts."""

PROFILERS = ("simple", "advanced", "pytorch")
MAX_NODES = 10_000


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """Lightning Trainer.

    Args:
        accelerator: `cpu`, `gpu`, `cuda` or `mps`; `auto`: the first device with enough memory for the model.
        strategy: strategy for several processes: `auto`, `ddp`, or a Lightning strategy.
        devices: number of devices, or their indices, such as 0,1; one process per device; `auto`: one device.
        num_nodes: number of machines.
        logger: `true`: TensorBoard; `false`: none; or Lightning loggers.
        callbacks: Lightning callbacks for monitoring, each as class_path with init_args.
        enable_progress_bar: `false`: show no progress; otherwise a bar on a terminal, and lines elsewhere.
        deterministic: use deterministic algorithms: `true` fails if an operation has none, `warn` warns.
        benchmark: let cuDNN benchmark its algorithms.
        profiler: `simple`, `advanced`, `pytorch`, or a Lightning profiler.
        detect_anomaly: enable autograd anomaly detection, which locates NaN gradients.
        plugins: Lightning cluster environments, each as class_path with init_args.
        default_root_dir: root folder of the logs; default: lightning_logs.
    """

    accelerator: str = "auto"
    strategy: str | Strategy = "auto"
    devices: list[int] | str | int = "auto"
    num_nodes: int = 1
    logger: Logger | list[Logger] | bool | None = None
    callbacks: list[Callback] | Callback | None = None
    enable_progress_bar: bool | None = None
    deterministic: bool | Literal["warn"] | None = None
    benchmark: bool | None = None
    profiler: Profiler | str | None = None
    detect_anomaly: bool = False
    plugins: ClusterEnvironment | list[ClusterEnvironment] | None = None
    default_root_dir: str | None = None


def import_paths() -> list[str]:
    """Import paths of the allowed classes, through the package and through the defining module."""
    found = {
        path
        for package, names in CLASSES.items()
        for name in names
        for path in (f"{package.__name__}.{name}", f"{getattr(package, name).__module__}.{name}")
    }
    return sorted(found)


def check_trainer(trainer: Any) -> None:
    """Check the Trainer options before the run is planned.

    Args:
        trainer: Parsed options.

    Raises:
        InputError: An option is invalid; the message names it.
    """
    check_number("--trainer.num_nodes", getattr(trainer, "num_nodes", 1), at_least=1, at_most=MAX_NODES)
    _check_devices(trainer.devices)
    known = ["auto", *(name for name in strategies.StrategyRegistry.available_strategies() if name.startswith("ddp"))]
    plugins = getattr(trainer, "plugins", None)
    for option, names, allowed in (
        ("trainer.strategy", [getattr(trainer, "strategy", None)], known),
        ("trainer.profiler", [getattr(trainer, "profiler", None)], PROFILERS),
        ("trainer.plugins", plugins if isinstance(plugins, list) else [plugins], ()),
    ):
        wrong = [name for name in names if isinstance(name, str) and name not in allowed]
        if wrong:
            raise InputError(f"--{option} must be {TAKES[option]} (got {wrong[0]}).")


def _check_devices(devices: Any) -> None:
    """Check `devices`.

    Raises:
        InputError: It is not a positive number, a list of device indices, or `auto`.
    """
    if devices == "auto":
        return
    listed = devices.strip("[] ").split(",") if isinstance(devices, str) and "," in devices else devices
    numbers = [str(number).strip() for number in (listed if isinstance(listed, list) else [listed])]
    are_numbers = all(number.isascii() and number.isdigit() and int(number) <= MOST_DEVICES for number in numbers)
    if not numbers or not are_numbers or len(set(numbers)) < len(numbers) or listed in (0, "0"):
        raise InputError(f"--trainer.devices must be a positive number or device indices, such as 0,1 (got {devices}).")
