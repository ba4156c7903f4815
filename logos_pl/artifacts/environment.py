"""Environment of a run: library versions, git commit and device."""

import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from logos_pl.artifacts.provenance_schema import Environment

PROJECT_ROOT = Path(__file__).resolve().parents[2]


def environment(device: torch.device) -> Environment:
    """Versions of the libraries that affect results, and the device with its name, if any."""
    words = str(device) if device.type != "cuda" else f"{device} ({torch.cuda.get_device_name(device)})"
    return Environment(
        torch=str(torch.__version__),
        transformers=version("transformers"),
        lightning=version("lightning"),
        device=words,
    )


def project_version() -> str:
    """Version of the installed logos-pl."""
    return version("logos-pl")


def git_sha(root: Path = PROJECT_ROOT) -> str | None:
    """Commit of the checkout at ``root``, with ``-dirty`` if tracked files differ; None if it is not a checkout.

    Only a ``.git`` in ``root`` itself counts, as an installed package may be inside another repository.
    """
    if not (root / ".git").exists():
        return None
    # Inside a git hook, GIT_DIR and similar variables refer to another repository.
    outside = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        said = subprocess.run(
            command, capture_output=True, text=True, check=False, env=outside | {"GIT_OPTIONAL_LOCKS": "0"}
        )
    except FileNotFoundError:  # no git on this machine
        return None
    return said.stdout.strip() if said.returncode == 0 else None
