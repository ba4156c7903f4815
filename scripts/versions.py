"""Build the wheel, install it in a new environment with given versions, and run it and the suite's core there.

    python3 dev.py versions oldest                       # requirements-oldest.lock: every lower bound of pyproject.toml
    python3 dev.py versions newest                       # requirements-newest.lock: the newest releases that it allows
    python3 dev.py versions newest --torch 2.15.0        # another torch than the list's
    python3 dev.py versions newest --python python3.13   # another Python than the one that runs this

Needs nothing but Python 3.11 or later with pip. Commands and tests run in a temporary folder without the checkout's
package, so what they import is what the wheel brought. With what is in pip's cache it takes about five minutes on two
cores. A torch for CUDA takes several GB of downloads and of disk; the environment is removed at the end.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

LISTS = {name: f"requirements-{name}.lock" for name in ("oldest", "newest")}
"""File of exact versions by the name of the list."""

TOOLS = ("pytest", "pytest-xdist", "beartype", "jsonschema", "selenium")
"""What the core of the suite needs beside the package."""

CORE = (
    "tests/test_api.py",
    "tests/artifacts/test_torch_files.py",
    "tests/cli/test_run.py",
    "tests/compare/test_report.py",
    "tests/data/test_shards.py",
    "tests/data/test_source.py",
    "tests/fit/test_checkpoint.py",
    "tests/functional/test_readings.py",
    "tests/gates/test_writer.py",
    "tests/hub/test_pull.py",
    "tests/io/test_hub_failures.py",
    "tests/kinds/test_registry.py",
    "tests/lenses/test_head.py",
    "tests/lm/test_hollow.py",
    "tests/modules/test_row_means.py",
    "tests/settings/test_resolve.py",
    "tests/sweeps/test_sweep.py",
)
"""The core of the suite: of every folder of the package at least one module, and what leans most on other packages."""

CARRIED = ("tests", "benchmarks", "configs", "examples", "scripts", "pyproject.toml")
"""What the tests need of the checkout, beside the package."""

DEMO = "--model.model_id demo --data.dataset demo --data.seq_len 128 --data.val_seqs 8 --trainer.accelerator cpu"
COMMANDS = {
    "--version": 0,
    "doctor": 0,
    "read The·capital·of·Germany·is --answer Berlin --html page.html": 0,
    f"fit {DEMO} --data.tokens 30_000": 0,
    "predict --model.model_id demo --trainer.accelerator cpu": 0,
    f"test {DEMO} --data.test_seqs 8 --intermediates.suite demo": 3,
    "read The·capital·of·Germany·is --lens checkpoints/tuned_lenses/demo": 0,
}
"""Commands of the installed package, `·` for a space within a word, and their exit status: the lens fails a gate."""


class Requirement(NamedTuple):
    """A dependency of `pyproject.toml`.

    Attributes:
        name: Normalised name.
        extras: Extras in brackets, or nothing.
        oldest: Lower bound.
        below: Upper bound, which is not allowed; None where there is none.
    """

    name: str
    extras: str
    oldest: str
    below: str | None


REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?P<extras>\[\w+\])?>=(?P<oldest>[\w.]+)(?:,<(?P<below>[\w.]+))?")


def requirements(root: Path = ROOT) -> list[Requirement]:
    """The dependencies of `pyproject.toml`, each of which has a lower bound."""
    found = []
    for line in tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]:
        match = REQUIREMENT.fullmatch(line)
        if match is None:
            sys.exit(f"pyproject.toml: {line!r} is not of the form name>=oldest or name>=oldest,<below.")
        name, extras, oldest, below = match.group("name", "extras", "oldest", "below")
        found.append(Requirement(normalised(name), extras or "", oldest, below))
    return found


def normalised(name: str) -> str:
    """Name of a package as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(path: Path) -> dict[str, str]:
    """Version by normalised name in a file of `name==version` lines."""
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return {normalised(name): version for name, _, version in (line.partition("==") for line in lines if line)}


def as_key(version: str) -> tuple[int, ...]:
    """What versions without letters are ordered by; a local label such as `+cpu` does not count."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0]))


class Environment:
    """A virtual environment of its own.

    Args:
        folder: Where it is made.
        python: The interpreter it is made with.
    """

    def __init__(self, folder: Path, python: str) -> None:
        run(python, "-m", "venv", "--clear", folder)
        self.scripts = folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = self.scripts / "python"

    def pip(self, *arguments: str | Path) -> None:
        """Install something, or end."""
        run(self.python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *arguments)

    def versions(self) -> dict[str, str]:
        """Version of every package by normalised name."""
        command = [str(self.python), "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"]
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return {normalised(name): version for name, _, version in (line.partition("==") for line in listed.split())}


def run(*command: str | Path, cwd: Path = ROOT, status: int = 0) -> None:
    """Run a command and end if its exit status is not the expected one."""
    ended = subprocess.run([str(part) for part in command], cwd=cwd, check=False).returncode
    if ended != status:
        sys.exit(f"{' '.join(map(str, command))}\nended with exit status {ended}; expected {status}.")


def build(folder: Path, tools: Environment) -> Path:
    """The wheel, built from the source distribution, both checked for the registry; what builds is fetched anew."""
    run(tools.python, "-m", "build", "--outdir", folder / "dist", ROOT)
    run(tools.python, "-m", "twine", "check", "--strict", *sorted((folder / "dist").iterdir()))
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def install(environment: Environment, tools: Environment, wheel: Path, name: str, torch: str | None) -> None:
    """Install the wheel with the exact versions of a list; refused is what `pyproject.toml` does not allow."""
    path = ROOT / LISTS[name]
    # By exact version and first: any other request may bring gigabytes of CUDA packages.
    environment.pip(f"torch=={torch or pinned(path)['torch']}")
    # The list is complete, so nothing is left for pip to find out but torch's own packages, which are there.
    pins = [f"{package}=={version}" for package, version in pinned(path).items() if package != "torch"]
    uv = (tools.scripts / "uv", "pip")
    run(*uv, "install", "-q", "--python", environment.python, "--no-deps", wheel, *pins)
    run(*uv, "check", "--python", environment.python)


def renew(tools: Environment, name: str) -> None:
    """Write a list anew: every lower bound, or the newest that is allowed, and the newest of all else."""
    path = ROOT / LISTS[name]
    equal = "==" if name == "oldest" else ">="
    wanted = [
        f"{bound.name}{bound.extras}{equal}{bound.oldest}{f',<{bound.below}' if bound.below else ''}"
        for bound in requirements()
    ]
    # The newest torch is stated, as it is by far the largest package and may be capped where this runs.
    wanted += [f"torch=={pinned(path)['torch']}"] if name == "newest" else []
    done = subprocess.run(
        [tools.scripts / "uv", "pip", "compile", "-", "-q", "--python-version=3.11", "--no-annotate", "--no-header"],
        input="\n".join([*wanted, *TOOLS]), check=True, capture_output=True, text=True,
    )  # fmt: skip
    comment = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    # Packages that torch wants on this platform alone come with it.
    pins = [line for line in done.stdout.splitlines() if not line.startswith(("nvidia-", "cuda-", "triton", "setupt"))]
    path.write_text("\n".join([*comment, *pins]) + "\n", encoding="utf-8")


def exercise(environment: Environment, folder: Path) -> None:
    """Run commands of the installed package where nothing of the checkout is."""
    program = environment.scripts / "logos-pl"
    os.environ["HF_HUB_OFFLINE"] = "1"
    for words, status in COMMANDS.items():
        print(f"$ logos-pl {words.replace('·', ' ')}", flush=True)
        run(program, *(word.replace("·", " ") for word in words.split()), cwd=folder, status=status)


def test_core(environment: Environment, folder: Path, files: Sequence[str]) -> None:
    """Run the core of the suite on the installed package."""
    for name in CARRIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    where = "import logos_pl, sys; sys.exit(not logos_pl.__file__.startswith(sys.prefix))"
    run(environment.python, "-c", where, cwd=folder)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Warnings of old packages about newer ones are not ours to mend; with requirements.lock they are errors.
    shares = ("-n", "auto", "--dist", "loadfile", "-p", "no:cacheprovider", "-q", "-W", "default", "-m", "not slow")
    run(environment.python, "-m", "pytest", *shares, *files, cwd=folder)


def main() -> None:
    """Do it for the list of the first argument."""
    parser = argparse.ArgumentParser(
        prog="dev.py versions", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("list", choices=list(LISTS), help="which versions")
    parser.add_argument("--torch", help="another torch than the list's")
    parser.add_argument("--python", default=sys.executable, help="the interpreter (default: the one that runs this)")
    parser.add_argument("--renew", action="store_true", help="first write the list anew, from pyproject.toml's bounds")
    parser.add_argument("tests", nargs="*", default=CORE, help="tests to run in place of the core")
    given = parser.parse_intermixed_args()  # options may stand between the list and the tests
    for name in ("PYTHONPATH", "VIRTUAL_ENV"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory(prefix="logos-pl-versions-") as temporary:
        folder = Path(temporary)
        tools = Environment(folder / "tools", given.python)
        tools.pip("build>=1.6", "twine>=7", "uv>=0.13")
        if given.renew:
            renew(tools, given.list)
        print("Building, and checking what a registry gets …", flush=True)
        wheel = build(folder, tools)
        environment = Environment(folder / "environment", given.python)
        print(f"Installing {wheel.name} with {LISTS[given.list]} …", flush=True)
        install(environment, tools, wheel, given.list, given.torch)
        (folder / "empty").mkdir()
        exercise(environment, folder / "empty")
        del os.environ["HF_HUB_OFFLINE"]  # some tests speak with a Hub of their own
        (folder / "checkout").mkdir()
        test_core(environment, folder / "checkout", given.tests)
        found = environment.versions()
        python = subprocess.run([environment.python, "--version"], capture_output=True, text=True, check=True).stdout
        print(f"The core passes on {python.strip()} with:")
        for bound in requirements():
            print(f"  {bound.name:<16} {found[bound.name]}")


if __name__ == "__main__":
    main()
