"""What of Lightning's Trainer a user may set, and the classes that a configuration may name for it."""

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
from logos_pl.errors import InputError

CLASSES: dict[ModuleType, tuple[str, ...]] = {
    # Those that watch a run. The others change what is trained or how (then the record would be wrong), take the place
    # of this project's own, or take functions.
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
    # Precision follows --model.dtype, and checkpoints are this project's.
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
"""Packages of Lightning, and the classes of each that a configuration may name."""

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
"""What the options take that could name classes, in words."""

PROFILERS = ("simple", "advanced", "pytorch")
MAX_NODES = 10_000
MAX_DEVICES = 10_000


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """Where a command runs, and what watches it.

    Args:
        accelerator: kind of device: `cpu`, `gpu`, `cuda` or `mps`; `auto`: the first with room for the model.
        strategy: how several processes work together: `auto`, `ddp`, or one of Lightning's strategies.
        devices: devices, each with a process of its own: how many, or which, such as 0,1; `auto`: one.
        num_nodes: machines.
        logger: where figures are logged: `true`, TensorBoard; `false`, nowhere; or Lightning's loggers.
        callbacks: Lightning's callbacks that watch a run, each as class_path with init_args.
        enable_progress_bar: show progress; left out: as suits the terminal.
        deterministic: use deterministic algorithms: `true`, or `warn` where there is none.
        benchmark: let cuDNN try its algorithms.
        profiler: `simple`, `advanced`, `pytorch`, or one of Lightning's profilers.
        detect_anomaly: stop at the operation whose gradient is NaN.
        plugins: Lightning's cluster environments, each as class_path with init_args.
        default_root_dir: folder of the logs; left out: lightning_logs.
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
    """What those classes may be called: as their package offers them, and as where they are defined."""
    found = {
        path
        for package, names in CLASSES.items()
        for name in names
        for path in (f"{package.__name__}.{name}", f"{getattr(package, name).__module__}.{name}")
    }
    return sorted(found)


def check_trainer(trainer: Any) -> None:
    """Refuse what no Trainer could be made of, before anything is planned with it.

    Args:
        trainer: The parsed options.

    Raises:
        InputError: naming the option.
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
            raise InputError(f"--{option} {wrong[0]} is not what it takes: {TAKES[option]}.")


def _check_devices(devices: Any) -> None:
    """A number from 1 on, devices by their numbers, or ``auto``.

    Raises:
        InputError: It is none of them.
    """
    if devices == "auto":
        return
    listed = devices.strip("[] ").split(",") if isinstance(devices, str) and "," in devices else devices
    numbers = [str(number).strip() for number in (listed if isinstance(listed, list) else [listed])]
    are_numbers = all(number.isascii() and number.isdigit() and int(number) <= MAX_DEVICES for number in numbers)
    if not numbers or not are_numbers or len(set(numbers)) < len(numbers) or listed in (0, "0"):
        raise InputError(
            f"--trainer.devices {devices} is not understood: give a number from 1 on, or devices, such as 0,1."
        )
