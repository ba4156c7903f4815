"""Cases for GGUF files and adapters; without their packages, and without the files, only their names are tried."""

import json
from pathlib import Path
from random import Random

from fuzzing.case import Case, Kind, command
from fuzzing.damage import damaged, flipped, put, replaced
from fuzzing.inputs import CONFIG
from fuzzing.sealed import files_of
from fuzzing.values import edited, odd_text, to_json

ADAPTER_OPTIONS = {
    "megatron_config": {"a": 1}, "layer_replication": [[0, 4]], "init_lora_weights": "corda", "r": 3, "use_dora": True,
    "target_modules": "(.+)+x", "peft_type": "XLORA", "modules_to_save": ["lm_head"], "rank_pattern": {"q_proj": 4},
    "auto_mapping": {"base_model_class": "system", "parent_library": "os"}, "revision": "x", "bias": "all",
}  # fmt: skip


def quantised(rng: Random, root: Path) -> Case:
    """A GGUF file, an adapter's folder, or their names."""
    stored, adapter = root / "stored", root / "lora"
    if rng.random() < 0.1 or not (stored.is_dir() and adapter.is_dir()):
        option = rng.choice(("gguf", "adapter"))
        name = odd_text(rng).replace("\0", "")
        return command(f"{option} {name!r}", ["selftest", *CONFIG, f"--model.{option}={name}"])
    if rng.random() < 0.4:
        path = rng.choice(sorted(stored.glob("*.gguf")))
        title = rng.choice((flipped, damaged, damaged, replaced))(rng, path)
        return command(f"stored/{title}", ["selftest", *CONFIG, "--model.model_id=stored"])
    if rng.random() < 0.5:
        path = adapter / "adapter_config.json"
        key = rng.choice(list(ADAPTER_OPTIONS))
        tree = json.loads(path.read_text()) | ({key: ADAPTER_OPTIONS[key]} if rng.random() < 0.5 else {})
        tree, title = edited(rng, tree, most_edits=2)
        put(path, to_json(tree))
    else:
        path = rng.choice(files_of(adapter))
        title = rng.choice((flipped, damaged, replaced))(rng, path)
    return command(f"lora/{title}", ["selftest", *CONFIG, "--model.adapter=lora"])


KINDS = (Kind("quantised", 200, quantised),)
