"""Fits and reads a model that is larger than the memory it may use: `python -m benchmarks.larger_than_memory FOLDER`.

`scripts/make_large_model.py` makes the model. `fit`, `predict` and `test` run streamed in a limited address space, then
with the model in memory and no limit. Peaks of resident memory are the system's count (ru_maxrss); what is written is
compared by hash.
"""

import argparse
import hashlib
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import table
from logos_pl.lm.memory import ModelShape
from logos_pl.lm.model_shape import model_shape
from logos_pl.lm.sources import clean_name

SEQ_LEN, STEP_SEQS, STEPS = 32, 4, 2
GROUP_TOKENS = 2**12
FACTS = "facts:\n- {id: one, prompt: The capital of Italy is, answer: Rome}\n- {id: two, prompt: The, answer: sun}\n"
COMMANDS = ("fit", "predict", "test")


class Finished(NamedTuple):
    """A command that has ended.

    Attributes:
        status: Its exit status.
        peak: The most resident memory that it had, in bytes.
        seconds: How long it took.
    """

    status: int
    peak: int
    seconds: float


def run(arguments: Sequence[str], log: Path, limit: int | None) -> Finished:
    """Run `logos-pl`, in an address space of so many bytes if there is a limit.

    Args:
        arguments: Command and options.
        log: Takes what it prints.
        limit: Bytes of its address space; None: no limit.
    """
    began, command = time.monotonic(), [sys.executable, "-m", "logos_pl", *arguments]
    child = os.fork()
    if child == 0:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.execv(sys.executable, command)
    _, status, used = os.wait4(child, 0)
    return Finished(os.waitstatus_to_exitcode(status), used.ru_maxrss * 1024, time.monotonic() - began)


def options_of(model: Path, out: Path, placement: str) -> dict[str, list[str]]:
    """Options of each command: two steps of training, one prompt, a little text and two facts."""
    lens, suite = out / "lenses", out / "suite.yaml"
    placed = [f"--model.model_id={model}", "--model.dtype=bfloat16", f"--model.placement={placement}"]
    if placement == "streamed":
        placed.append(f"--model.group_tokens={GROUP_TOKENS}")
    logs = [f"--trainer.default_root_dir={out / 'logs'}", "--trainer.accelerator=cpu"]
    text = [
        "--data.dataset=demo", f"--data.seq_len={SEQ_LEN}", f"--data.val_seqs={STEP_SEQS}", "--data.micro_batch_seqs=2",
        "--data.positions_per_seq=8",
    ]  # fmt: skip
    training = [
        "--model.rank=8", "--model.init=random", "--model.lr=1e-3", f"--data.tokens={STEPS * STEP_SEQS * SEQ_LEN}",
        f"--data.effective_batch_seqs={STEP_SEQS}", f"--data.validate_every_steps={STEPS}", "--data.lanes=2",
        "--data.num_workers=0", f"--export.folder={lens}", "--trainer.logger=false",
    ]  # fmt: skip
    fitted = ["--lens.source", str(lens / clean_name(str(model)))]
    return {
        "fit": ["fit", *placed, *logs, *text, *training],
        "predict": ["predict", *placed, *logs, "--data.prompt=The river", f"--sweep.out_dir={out / 'sweep'}", *fitted],
        "test": ["test", *placed, *logs, *text, f"--data.test_seqs={STEP_SEQS}", f"--data.suite={suite}", *fitted],
    }


def digest_of(out: Path) -> str:
    """Hash of the weights of the lens, and of all tables of numbers."""
    found = hashlib.sha256()
    for path in sorted([*out.rglob("*.csv"), *(out / "lenses").rglob("*.pt")]):
        found.update(path.name.encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def expected_bytes(shape: ModelShape) -> tuple[int, int, int]:
    """Bytes of two blocks, of what is outside the blocks, and of a group's residual stream, in bfloat16."""
    assert shape.largest_block is not None
    assert shape.outside_blocks is not None
    group = 2 * min(GROUP_TOKENS, STEPS * STEP_SEQS * SEQ_LEN) * shape.d_model * 2
    return 2 * shape.largest_block * 2, shape.outside_blocks * 2, group


def main(arguments: list[str]) -> int:
    """Run all commands both ways, and print what they took.

    Returns:
        Exit status: 1 if a command failed, or what they wrote is not the same.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.larger_than_memory")
    parser.add_argument("folder", type=Path, help="a model with two or more blocks, in safetensors")
    parser.add_argument("--out", type=Path, required=True, help="a new folder for what the commands write")
    parser.add_argument("--limit_gb", type=float, default=6.0, help="address space of the streamed commands")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True)
    model, rows, digests, failed = given.folder.resolve(), [], set(), False
    for placement, limit in (("streamed", int(given.limit_gb * 1e9)), ("resident", None)):
        out = given.out / placement
        out.mkdir()
        (out / "suite.yaml").write_text(FACTS)
        for name, options in options_of(model, out, placement).items():
            done = run(options, out / f"{name}.log", limit)
            allowed = "none" if limit is None else f"{limit / 1e9:.1f} GB"
            rows.append(
                [name, placement, allowed, f"{done.peak / 1e9:.2f} GB", f"{done.seconds:.0f}", f"{done.status}"]
            )
            print(" · ".join(rows[-1]), flush=True)
            failed = failed or done.status not in (0, *([3] if name == "test" else []))  # 3: a gate is not passed
        digests.add(digest_of(out))
        print(f"{placement}: sha256 of lens and tables {digest_of(out)}", flush=True)
    print(table(["command", "placement", "address space", "peak resident", "seconds", "exit status"], rows))
    blocks, outside, group = (number / 1e9 for number in expected_bytes(model_shape(str(model))))
    print(
        f"two blocks {blocks:.2f} GB, embedding and head {outside:.2f} GB, residual stream of the group {group:.2f} GB"
    )
    return int(failed or len(digests) > 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
