"""Hash what fit, prism, predict, validate, test and hub index write on the bundled demo, before and after a change.

    python scripts/hash_outputs.py before.json          # at one commit
    python scripts/hash_outputs.py after.json           # at another
    python scripts/hash_outputs.py --compare before.json after.json

A refactor keeps every hash; a change of the mathematics shows in the outputs it affects. Times, commits of this
repository and the hashes of other files are left out of JSON and Markdown. Tensors are hashed by name, dtype, shape and
bytes.
About a minute on two cores.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ["--config", str(ROOT / "configs" / "demo.yaml"), "--trainer.enable_progress_bar", "false"]
TEXT = ["--data.val_seqs", "16"]
COMMANDS: dict[str, list[str]] = {
    "prism": [*CONFIG, *TEXT, "--data.num_workers", "0", "--prism.positions", "20000"],
    "fit": [*CONFIG, *TEXT, "--data.num_workers", "0", "--data.tokens", "100000", "--data.validate_every_steps", "10"],
    "predict": [*CONFIG, "--sweep.out_dir", "sweep", "--sweep.attribution", "true", "--sweep.raw_lens", "full"],
    "validate": [*CONFIG, *TEXT],
    "test": [*CONFIG, *TEXT, "--data.test_seqs", "16"],
    "compare": ["norm", "tuned", *CONFIG, *TEXT, "--compare.out_dir", "comparison"],
}
"""Arguments of each command; `test` ends with status 3, as the lens fails a gate."""

VOLATILE = {"started", "finished", "git_sha", "sha256", "environment", "seconds", "project_version", "weights_sha256",
            "rotation_sha256", "content_sha256", "tl_version", "timestamp"}  # fmt: skip
"""JSON keys whose values differ between two runs or two commits of the same program."""

STAMP = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|\+00:00| UTC)?|\b[0-9a-f]{40,64}\b|\b[0-9a-f]{12}…"
)


def main() -> int:
    """Run all commands and write the hashes, or compare two files of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--compare", action="store_true", help="compare two files of hashes")
    arguments = parser.parse_args()
    if arguments.compare:
        return compare(*(json.loads(path.read_text()) for path in arguments.files))
    with tempfile.TemporaryDirectory() as folder:
        hashes = run_all(Path(folder))
    arguments.files[0].write_text(json.dumps(hashes, indent=1) + "\n")
    print(f"{len(hashes)} outputs: {arguments.files[0]}")
    return 0


def run_all(folder: Path) -> dict[str, str]:
    """Hashes of everything that the commands print and write, by command or file."""
    hashes = {}
    for command, options in COMMANDS.items():
        hashes[f"{command}: printed"] = digest(without_stamps(run(folder, command, *options)).encode())
    for kind in ("tuned_lenses", "prisms"):
        shutil.copytree(folder / "checkpoints" / kind / "demo", folder / "repository" / kind / "_local" / "demo")
    run(folder, "hub", "index", "repository")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and "tfevents" not in name and not name.endswith((".ckpt", ".lock", ".yaml")):
            hashes[re.sub(r"run-\d{8}-\d{4}", "run", name)] = hash_file(path)
    return hashes


def run(folder: Path, *command: str) -> str:
    """Output of a command; any exit status other than success or a failed gate ends this script."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "100",
        "PYTHONPATH": str(ROOT),
    }
    print(f"logos-pl {' '.join(command)}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "logos_pl", *command], cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode not in (0, 3):
        sys.exit(done.stderr)
    return re.sub(r"[\d,]+ tokens/s.*|\d+(\.\d+)? s\b.*", "", done.stdout)


def hash_file(path: Path) -> str:
    """Hash of a file's contents without what differs between runs."""
    if path.suffix == ".pt":
        return hash_tensors(path)
    if path.suffix == ".json":
        return digest(json.dumps(without_volatile(json.loads(path.read_text())), sort_keys=True).encode())
    if path.suffix in (".md", ".html", ".csv", ".sha256"):
        return digest(without_stamps(path.read_text()).encode())
    return digest(path.read_bytes())


def hash_tensors(path: Path) -> str:
    """Hash of a state dict: names, dtypes, shapes, bytes."""
    found = hashlib.sha256()
    for name, tensor in sorted(torch.load(path, weights_only=True).items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def without_volatile(value: Any) -> Any:
    """JSON without times, commits and hashes of other files."""
    if isinstance(value, dict):
        return {key: without_volatile(item) for key, item in value.items() if key not in VOLATILE}
    if isinstance(value, list):
        return [without_volatile(item) for item in value]
    return without_stamps(value) if isinstance(value, str) else value


def without_stamps(text: str) -> str:
    """Text without times and hashes."""
    return STAMP.sub("…", text)


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def compare(before: dict[str, str], after: dict[str, str]) -> int:
    """Print the differences; returns 1 if there are any."""
    different = [name for name in before if name in after and before[name] != after[name]]
    for title, names in (
        ("other content", different),
        ("only before", [name for name in before if name not in after]),
        ("only after", [name for name in after if name not in before]),
    ):
        for name in names:
            print(f"{title}: {name}")
    same = len(before.keys() & after.keys()) - len(different)
    print(f"{same} of {len(before.keys() | after.keys())} outputs are the same.")
    return int(before != after)


if __name__ == "__main__":
    sys.exit(main())
