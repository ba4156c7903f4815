"""Compares schedules: fits under different settings, evaluated on the same text and short prompts against their time.

    python -m benchmarks.schedules --json demo.json         # the bundled demo, offline; an hour on an idle core
    python -m benchmarks.schedules --json demo.json --only "full: no"

Every fit is a separate `logos-pl fit` process. Its time is the CPU time of the process and its workers with one thread,
so it does not depend on other load. Results are added to the file as they come; fits that are already in it are
skipped.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.evaluation import Evaluation, unseen_sequences
from benchmarks.report import table
from logos_pl.artifacts import load_tuned_lens
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import NormLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.settings.text import TextSettings

SEQUENCES = 128  # of held-out text
CPU = torch.device("cpu")


def grid(tokens: int, seq_len: int) -> dict[str, list[str]]:
    """Settings to compare: the default schedule, and variants with one change each."""
    budget = f"data.tokens={tokens}"
    changed = {
        "the same": [],
        "plain basis": ["model.precond=off"],
        "cosine to 0": ["model.anneal=cosine"],
        "plain basis, cosine to 0": ["model.precond=off", "model.anneal=cosine"],
        "penalties of 1e-4": ["model.l2=1e-4", "model.smoothness=1e-4"],
        "random start": ["model.init=random"],
        "late positions": ["data.position_range=[0.6,0.95]", f"data.positions_per_seq={min(64, seq_len // 4)}"],
        "32 sequences a step, 32 positions": ["data.effective_batch_seqs=32", "data.positions_per_seq=32"],
        "lr 3e-3": ["model.lr=3e-3"],
        "lr 1e-2": ["model.lr=1e-2"],
        "lr 2e-2": ["model.lr=2e-2"],
    }
    settings = {"spec": ["schedule=spec", budget]}
    settings |= {f"full: {what}": [budget, *options] for what, options in changed.items()}
    one_step = [f"data.tokens={32 * seq_len}", "data.effective_batch_seqs=32", "model.lr=1e-12"]
    return {"full: no step": one_step} | settings


def budgets(tokens: list[int]) -> dict[str, list[str]]:
    """The named schedules at several budgets."""
    return {
        f"{name}, {count:,} tokens": [f"schedule={name}", f"data.tokens={count}"]
        for count in tokens
        for name in ("spec", "full")
    }


def fit(options: list[str], folder: Path, device: torch.device = CPU) -> tuple[float, Path]:
    """Seconds of one fit, and its artifact in ``folder``.

    Args:
        options: Options of `logos-pl fit`.
        folder: Where it writes.
        device: Where it runs. On the CPU its time is the CPU time of the process and its workers, elsewhere that of the
            wall clock.
    """
    places = [f"trainer.default_root_dir={folder / 'logs'}", f"export.folder={folder / 'lenses'}"]
    fixed = [f"trainer.accelerator={device.type}", "model.bias_only=false", "early_stopping.patience=1000", *places]
    command = [sys.executable, "-m", "logos_pl", "fit", *(f"--{option}" for option in [*options, *fixed])]
    before, began = os.times(), time.perf_counter()
    subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, check=True)
    after, seconds = os.times(), time.perf_counter() - began
    if device.type == "cpu":
        seconds = after.children_user + after.children_system - before.children_user - before.children_system
    (artifact,) = (folder / "lenses").iterdir()
    return seconds, artifact


def settings_table(figures: dict[str, Any]) -> str:
    """Table of the mean over the inner rows, by setting; the norm lens takes no training time."""
    rows = []
    for name, found in figures.items():
        means = [f"{sum(rows) / len(rows):.3f}" for rows in found["kl_bits"].values()]
        rows.append([name, f"{found.get('tokens', 0):,}", f"{found.get('cpu_seconds', 0):,.0f}", *means])
    return table(["setting", "tokens", "CPU s", "text", "late text", "prompts"], rows)


def main() -> None:
    """Run what is not yet in the file, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="file that figures are added to")
    parser.add_argument("--model", default="demo", help="model, as for a fit")
    parser.add_argument("--dataset", default="demo", help="text, as for a fit")
    parser.add_argument("--name", help="configuration of the data set")
    parser.add_argument("--seq_len", type=int, default=128, help="tokens per sequence")
    parser.add_argument("--tokens", type=int, default=1_000_000, help="budget of the settings compared")
    parser.add_argument("--budgets", type=int, nargs="*", default=[], help="budgets of the named schedules")
    parser.add_argument("--only", nargs="*", help="settings to run, by their first words; all where left out")
    given = parser.parse_args()
    lm = FrozenLM.load(given.model)
    text = TextSettings(dataset=given.dataset, name=given.name, seq_len=given.seq_len)
    evaluation = Evaluation(lm, unseen_sequences(text, given.model, SEQUENCES))
    common = [f"model.model_id={given.model}", f"data.dataset={given.dataset}", f"data.seq_len={given.seq_len}"]
    common += [] if given.name is None else [f"data.name={given.name}"]
    figures = json.loads(given.json.read_text()) if given.json.exists() else {}
    figures["norm lens"] = {"kl_bits": evaluation.kl_bits(NormLens(Head(lm.anatomy)))}
    for name, options in (grid(given.tokens, given.seq_len) | budgets(given.budgets)).items():
        if name in figures or (given.only and not any(name.startswith(words) for words in given.only)):
            continue
        with tempfile.TemporaryDirectory() as folder:
            seconds, artifact = fit([*common, *options], Path(folder))
            lens, provenance = load_tuned_lens(artifact, lm)
            tokens = provenance.budget.tokens
            figures[name] = {"cpu_seconds": seconds, "tokens": tokens, "kl_bits": evaluation.kl_bits(lens)}
        given.json.write_text(json.dumps(figures, indent=1))
        print(f"{name}: {seconds:.0f} s", file=sys.stderr, flush=True)
    print(settings_table(figures))


if __name__ == "__main__":
    main()
