"""Kinds of cases for user input: options, configurations, prompts, environment, folders of results."""

import json
from pathlib import Path
from random import Random
from typing import Any

import yaml

from fuzzing.case import Case, Kind, command
from fuzzing.child import Stdout
from fuzzing.damage import HARMLESS, damaged, put, replaced
from fuzzing.values import ESCAPES, TEXTS, edited, odd_text, shown, to_yaml

CONFIG = ["--config", "run.yaml"]
NO_OTHER_LENS = ["--export.folder=nowhere", "--sweep.prism=off", "--sweep.jacobian=off"]
"""Options of a sweep without the fitted lenses, which would be refused on another model."""

READERS = ("selftest", "selftest", "predict", "validate", "fit", "prism", "test")
"""Commands, with the cheap ones more often."""

ARGUMENTS = (
    *TEXTS, "0", "1", "2", "-1", "3", "64", "1000", "1e400", "-1e400", "9" * 400, "1e-400", "0.5", "1.0", "2.5", "-0.0",
    "inf", "-inf", "[0.1]", "[0.1, 0.9]", "[0.9, 0.1]", "[nan, 1]", "[]", "{}", "[[1]]", "{a: 1}", "{a: 1", "[" * 5000,
    "{a: " * 3000, "\udcff\udcfe", "run.yaml", "missing.yaml", "prompts.yaml", "text", "tiny", "checkpoints",
    "lightning_logs", "!!binary x", "!!timestamp 2026-02-31", "2026-02-31", "? a", "- a", "%YAML 9", "@a", "`a`", "> a",
    "| a", ": ", "=", "[*]",
    '{"class_path": "lightning.pytorch.callbacks.LambdaCallback", "init_args": {"on_fit_start": "os.getcwd"}}',
    '[{"class_path": "Timer"}]', '{"class_path": "builtins.print"}', "org/name@main", "v2026.01.01", "v9999.99.99",
    "c" * 41,
)  # fmt: skip

STARTS_PROCESSES = ("--trainer.devices", "--trainer.num_nodes")
"""Options for which numbers above 1 are valid and start processes."""


def _argument(rng: Random, option: str) -> str:
    while True:
        value = rng.choice(ARGUMENTS)
        if option in STARTS_PROCESSES and any(digit in value for digit in "23456789"):
            continue
        if option == "--trainer" or option == "--model.compile":  # true compiles with a C++ compiler, for minutes
            value = value.replace("true", "truee")
        return value


def options(rng: Random, root: Path) -> Case:
    """Any option of any command, with an invalid value."""
    listed: dict[str, list[str]] = json.loads((root / "options.json").read_text())
    name = rng.choice((*READERS, *READERS, *listed))
    given = []
    for _ in range(rng.choice((1, 1, 1, 2))):
        option = rng.choice(listed[name])
        if rng.random() < 0.03:
            option = rng.choice((option[:-1], option + "x", "--model.nothing", "--" + odd_text(rng), option + "+"))
        elif rng.random() < 0.03:
            option = rng.choice(listed[rng.choice(list(listed))])  # another command's
        value = _argument(rng, option)
        form = rng.choice(("=", " ", "=", "=", "alone"))
        given += [option] if form == "alone" else [f"{option}={value}"] if form == "=" else [option, value]
    given = [part.replace("\0", "") for part in given]  # no process can be given that
    title = ", ".join(shown(part) for part in given)
    return command(title, [*_base(name), *given])


def _base(name: str) -> list[str]:
    """A command that would succeed."""
    known = {
        "hub push": ["hub", "push", "--repo_id", "me/lenses", "--dry_run"],
        "hub pull": ["hub", "pull", "--repo_id", "me/lenses", "--all", "--folder", "pulled"],
        "hub index": ["hub", "index", "hub"],
        "hub verify": ["hub", "verify", "hub"],
        "hub list": ["hub", "list", "--repo_id", "me/lenses"],
        "read": ["read", "sun moon", "--model", "tiny"],
    }
    return known.get(name) or [name, *CONFIG]


BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 11))]
)
YAMLS = (
    "[" * 100_000, "{" * 100_000, "- " * 50_000, "model: " + "[" * 3000 + "]" * 3000, BOMB, "a: &a [*a]\nmodel: *a",
    "&a *a", "*a", "model: &m {model_id: tiny, <<: *m}", "<<: 1", "<<: [1]", "? [a, b]\n: 1", "? {a: 1}\n: 1", "1: 2",
    "null: 1", "true: 1", "- 1", "--- a\n--- b", "%YAML 3.0\n---\na: 1", "%FOO\n--- a", "\tmodel: 1",
    "model:\n\tmodel_id: tiny", "model: tiny", "model: [tiny]", "a: !!python/object/apply:os.getcwd []",
    "!!python/name:os.system", "a: !!binary '###'", "a: !!int x", "a: !!float x", "a: !!timestamp '2026-02-31'",
    "a: 2026-02-31", "a: !!set {a, b}", "a: !!omap [a: 1]", "a: !unknown x", "a: !!bool x", "a: 190:20:30", "a: 0b2",
    "a: 0o9", "a: 1__0", "a: .inf", "a: '", 'a: "\\q"', 'a: "\\ud800"', 'a: "\\U00110000"', "a: |\n b\n  c\n d",
    '"\\e]0;pwned\\a\\e[31m": 1', 'model: {"\\e[31m": 1}', 'model: {model_id: "\\e]0;pwned\\a"}', "a:\n  - b\n c",
    "a: b: c", "a: [1, 2", "x" * 1_500_000, "a: '" + "x" * 3_000_000 + "'",
    "\n".join(f"k{i}: 1" for i in range(50_000)), "#" * 100_000, "\n" * 100_000, "\x00", "\x07: 1",
    "\ufeffmodel: {model_id: tiny}", "\u2028a: 1", "a: \x85b", "model: ~", "data: ~", "trainer: ~", "lens: ~",
    "sweep: ~", "fit: {model: {model_id: tiny}}", "config: run.yaml", "__class__: 1", "__path__: x",
    "__default_config__: x", "class_path: os.getcwd", "model: {class_path: TuningModule}", "subcommand: test",
    "print_config: true", "ckpt_path: last", "models: [tiny, tiny]", "models: [tiny, gpt, gone]",
    "models: []", "models: [tiny@v1, gone@v1, tiny@]",
    "models: tiny", "seed_everything: true", "seed_everything: -1", "seed_everything: 4294967296",
)  # fmt: skip
"""Documents that are not a configuration, or an unusual one."""

TRAINER = {
    "callbacks": None, "logger": True, "plugins": None, "profiler": None, "strategy": "auto", "deterministic": None,
    "benchmark": None, "detect_anomaly": False, "enable_progress_bar": None, "default_root_dir": "lightning_logs",
}  # fmt: skip
GROUPS: dict[str, dict[str, Any]] = {
    "early_stopping": {"patience": 3}, "export": {"folder": "checkpoints/tuned_lenses"},
    "prism": {"whiten": "auto", "rank": "full", "shrinkage": 1e-3, "folder": "checkpoints/prisms"},
    "jacobian": {"sequences": 8, "probes": "all", "skip_first": 16, "folder": "checkpoints/jacobians"},
    "sweep": {
        "tuned": "auto", "prism": "auto", "jacobian": "auto", "out_dir": None, "raw_lens": "sample",
        "keep_residuals": False, "attribution": False, "copy_threshold": 0.95, "copy_margin": 0.1,
    },
    "lens": {"source": None, "revision": None, "imported": None},
}  # fmt: skip
MORE_MODEL = {
    "revision": None, "gguf": None, "adapter": None, "dtype": "auto", "decoding_norm": "final", "init": "auto",
    "layers_per_step": "auto", "precond": "auto", "temperature": True, "bias_only": True, "betas": [0.9, 0.999],
    "weight_decay": 1e-4, "l2": 1e-4, "smoothness": 1e-4, "loss_block_mib": 256,
}  # fmt: skip
MORE_DATA = {
    "name": None, "split": "train", "revision": None, "text_column": None, "format": "text", "special_tokens": "auto",
    "position_range": "auto", "prompt": None, "token_ids": None, "answer": None,
}  # fmt: skip


def config(rng: Random, root: Path) -> Case:
    """A configuration file that is damaged, edited or not a configuration."""
    path, args = root / "run.yaml", [rng.choice(READERS), *CONFIG]
    way = rng.random()
    if way < 0.55:
        tree = yaml.safe_load(path.read_text())
        tree["model"] |= MORE_MODEL
        tree["data"] |= MORE_DATA
        tree["trainer"] |= TRAINER
        tree |= {key: tree.get(key, {}) | value for key, value in GROUPS.items()}
        tree, title = edited(rng, tree, most_edits=2)
        put(path, to_yaml(tree))
    elif way < 0.75:
        title = damaged(rng, path)
    elif way < 0.95:
        content = rng.choice(YAMLS)
        title = shown(content)
        if rng.random() < 0.5:
            put(root / "more.yaml", content)
            args += ["--config", "more.yaml"]
        elif rng.random() < 0.3:
            put(path, path.read_text() + content)
        else:
            put(path, content)
    else:
        title = replaced(rng, path)
    if rng.random() < 0.1:
        args.append("--print_config")
    return command(title, args)


def prompts(rng: Random, root: Path) -> Case:
    """A file of prompts, of facts or of unspoken intermediates, in YAML or as lens-eval has them."""
    name = rng.choice(
        ("prompts.yaml", "prompts.yaml", "chat.yaml", "chat.yaml", "suite.yaml", "unspoken.yaml", "lens-eval-typo.json")
    )
    path = root / name
    way = rng.random()
    if way < 0.6:
        tree, title = edited(rng, yaml.safe_load(path.read_text()), most_edits=2)
        put(path, to_yaml(tree))
    elif way < 0.8:
        title = damaged(rng, path)
    elif way < 0.95:
        content = rng.choice(YAMLS)
        content = rng.choice((content, "facts: " + content.replace("\n", " "), f"facts:\n- {content[:100_000]}"))
        title = shown(content)
        put(path, content)
    else:
        title = replaced(rng, path)
    reader = rng.choice(("selftest", "selftest", "predict")) if name in ("prompts.yaml", "chat.yaml") else "test"
    more = ["--intermediates.suite", name] if name.endswith(".json") else []
    if name == "chat.yaml":
        more = ["--data.prompts=chat.yaml", f"--model.model_id={rng.choice(('chatty', 'chatty', 'chatty', 'tiny'))}"]
        more += NO_OTHER_LENS if reader == "predict" else []
    return command(title, [reader, *CONFIG, *more])


PROMPT_TEXTS = (
    "sun moon", "sun moon ", "zzz", "<s>", "<s>sun", "\x1b[31msun", "sun\x00moon", "\u202esun", "sun " * 30,
    "sun " * 70, "sun " * 5000, "\udcff", "\U0001f9ff", "\r\n", "sun\nmoon", "é", "e\u0301", "\ufeffsun", " ", "",
    "<unk>", ". . .",
)  # fmt: skip


def prompt_texts(rng: Random, root: Path) -> Case:
    """A prompt and an answer of arbitrary characters as options, for a sweep with all outputs."""
    text, answer = rng.choice((*PROMPT_TEXTS, odd_text(rng))), rng.choice((*PROMPT_TEXTS, odd_text(rng), None))
    given = [f"--data.prompt={text}"] + ([] if answer is None else [f"--data.answer={answer}"])
    reader = rng.choice(("predict", "selftest"))
    if reader == "predict":
        given += rng.choice(
            ([], [], ["--sweep.attribution=true"], ["--sweep.keep_residuals=true"], ["--lens.imported=imported"])
        )
    given = [part.replace("\0", "") for part in given]
    return command(f"prompt {shown(text)}, answer {shown(answer)}", [reader, *CONFIG, *given])


VARIABLES: dict[str, tuple[str, ...]] = {
    "COLUMNS": ("0", "-1", "x", "1", "999999999", ""),
    "LINES": ("0", "x"),
    "LOCAL_RANK": ("x", "-1", "", "0"),
    "NODE_RANK": ("x", "-1", ""),
    "GROUP_RANK": ("x", "", "-1"),
    "RANK": ("x", ""),
    "WORLD_SIZE": ("x", "0", "-1", ""),
    "SLURM_PROCID": ("x", "", "-1"),
    "SLURM_NTASKS": ("x", "0", ""),
    "SLURM_JOB_NAME": ("x", ESCAPES),
    "MASTER_PORT": ("x", "-1", "99999999"),
    "TMPDIR": ("/nonexistent", "/dev/null", ""),
    "HOME": ("/nonexistent", "/dev/null", ""),
    "USER": ("", ESCAPES),
    "TERM": ("dumb", "unknown", "", ESCAPES),
    "NO_COLOR": ("1", ""),
    "TZ": ("x", "/dev/zero", ""),
    "LANG": ("C", "x"),
    "LC_ALL": ("C", "POSIX"),
    "HF_TOKEN": ("x\ny", ESCAPES, ""),
    "HF_ENDPOINT": ("x", ""),
    "PL_GLOBAL_SEED": ("x", "-1", "99999999999999999999"),
    "PL_SEED_WORKERS": ("x",),
    "CUDA_VISIBLE_DEVICES": ("x", "-1", "0"),
    "MPLBACKEND": ("x",),
    "PATH": ("", "/nonexistent"),
    "TOKENIZERS_PARALLELISM": ("x",),
    "OMP_NUM_THREADS": ("x", "0", "-1"),
}


def environment(rng: Random, root: Path) -> Case:
    """An environment variable, or a standard output that cannot be written."""
    name = rng.choice(
        ("selftest", "predict", "fit", "validate", "prism", "test", "hub verify", "hub list", "hub index")
    )
    base = _base(name)
    if rng.random() < 0.3:
        stdouts: tuple[Stdout, ...] = ("full", "closed", "gone")
        where = rng.choice(stdouts)
        help_too = rng.choice(([], [], ["--help"]))
        return command(f"standard output is {where}", [*base, *help_too], stdout=where)
    variables = {name: rng.choice(VARIABLES[name]) for name in rng.sample(list(VARIABLES), rng.choice((1, 1, 2)))}
    return command(", ".join(f"{key}={shown(value)}" for key, value in variables.items()), base, environment=variables)


FOLDERS = (
    "lightning_logs", "lightning_logs/tiny", "lightning_logs/tiny/version_0", "lightning_logs/sweeps",
    "lightning_logs/sweeps/run-latest", "lightning_logs/sweeps/.lock", "lightning_logs/sweeps/run-latest/.lock",
    "lightning_logs/sweeps/run-latest/.started", "checkpoints", "checkpoints/tuned_lenses",
    "checkpoints/tuned_lenses/tiny", "checkpoints/prisms", "checkpoints/prisms/tiny", "cache", "cache/hub", "home",
    "checkpoints/tuned_lenses/.tiny.new", "checkpoints/tuned_lenses/.tiny.old", "checkpoints/prisms/.tiny.new", "text",
    "hub", "imported", "maps",
)  # fmt: skip
NAMES = (
    "version_²", "version_", "version_-1", "version_01", "version_" + "9" * 30, "version_" + "9" * 5000, "version_x",
    "version_1.5", "version_١", "version_0 ", "version_\n", "version_\x1b[31m",
)  # fmt: skip
TIMES = (
    "", "x", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-01-01", "2026-01-01T00:00:00", "\x00",
    "20260101", "2026-W01-1", "9" * 5000, "2026-01-01T00:00:00+23:59:59.999999", "\xff",
)  # fmt: skip


def folders(rng: Random, root: Path) -> Case:
    """Something in the place of results that are written or read."""
    way = rng.random()
    reader = rng.choice(("predict", "fit", "prism", "test", "validate"))
    if way < 0.25:
        name = rng.choice([name for name in NAMES if len(name) < 250])
        place = root / "lightning_logs" / "tiny" / name
        place.mkdir(exist_ok=True) if rng.random() < 0.7 else put(place, b"")
        title = f"lightning_logs/tiny/{name!r}"
        reader = "fit"
    elif way < 0.45:
        content = rng.choice(TIMES)
        hidden = [path for path in (root / "lightning_logs/sweeps/run-latest").iterdir() if path.name.startswith(".")]
        started = [path for path in hidden if path.stat().st_size > 0]
        put(rng.choice(started or hidden), content)
        title, reader = f"the sweep before was started {shown(content)}", "predict"
    else:
        place = root / rng.choice(FOLDERS)
        place.parent.mkdir(parents=True, exist_ok=True)
        title = f"{place.parent.relative_to(root)}/{replaced(rng, place, HARMLESS)}"
    resumes = [] if reader in ("prism",) or rng.random() < 0.7 else ["--ckpt_path", rng.choice(("last", "best"))]
    return command(title, [reader, *CONFIG, *resumes])


KINDS = (
    Kind("options", 2600, options),
    Kind("config", 1800, config),
    Kind("prompts", 900, prompts),
    Kind("prompt texts", 250, prompt_texts),
    Kind("environment", 150, environment),
    Kind("folders", 250, folders),
)
