"""Kinds of cases for inputs made by others: model folders, tokenizers and texts."""

import bz2
import gzip
import json
import lzma
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fuzzing.case import Case, Kind, command
from fuzzing.damage import damaged, flipped, put, remove, replaced
from fuzzing.inputs import CONFIG, NO_OTHER_LENS, YAMLS
from fuzzing.sealed import files_of
from fuzzing.values import ESCAPES, edited, odd_text, odd_value, shown, to_json
from fuzzing.workspace import MODELS

MORE_CONFIG: dict[str, Any] = {
    "attn_implementation": "eager", "dtype": "float32", "torch_dtype": "float32", "is_causal": True,
    "use_bidirectional_attention": False, "return_dict": True, "output_hidden_states": False, "use_cache": True,
    "pad_token_id": 0, "rope_parameters": {"rope_type": "default"},
    "rope_scaling": {"rope_type": "linear", "factor": 2.0}, "auto_map": {"AutoModelForCausalLM": "evil.Evil"},
    "is_decoder": True, "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True},
    "tie_word_embeddings": False, "sliding_window": 8, "final_logit_softcapping": 30.0,
    "architectures": ["LlamaForCausalLM"], "vocab_size": 23, "head_dim": 8, "num_labels": 2,
}  # fmt: skip
FAMILIES = (
    "gpt2",
    "t5",
    "bert",
    "mamba",
    "llama4",
    "clip",
    "whisper",
    "mixtral",
    "falcon",
    "opt",
    "qwen3_moe",
    "deepseek_v3",
    "nothing",
)


def model(rng: Random, root: Path) -> Case:
    """A model's folder: configuration, tokenizer, weights."""
    name = rng.choice(("tiny", "tiny", *MODELS))
    folder, way, changed = root / name, rng.random(), False
    if way < 0.35:
        title = _edit_config(rng, folder / "config.json")
    elif way < 0.55:
        path = rng.choice([path for path in files_of(folder) if path.suffix == ".json" and path.name != "config.json"])
        tree, what = edited(rng, json.loads(path.read_text()), most_edits=2)
        put(path, to_json(tree))
        title = f"{path.name}: {what}"
    elif way < 0.7:
        path = rng.choice(sorted((*folder.glob("*.safetensors"), *folder.glob("*.bin"))))
        title = _edit_header(rng, path) if path.suffix == ".safetensors" else damaged(rng, path)
    elif way < 0.9:
        path = rng.choice(files_of(folder))
        title = (flipped if rng.random() < 0.3 else damaged)(rng, path)
        changed = name == "tiny" and path.name in ("config.json", "model.safetensors")
    elif way < 0.97:
        title = replaced(rng, rng.choice(files_of(folder)))
    else:
        title = _strange_file(rng, folder)
    if changed and rng.random() < 0.5:  # the lens was fitted on another model
        return command(title, ["predict", *CONFIG, "--sweep.tuned=require"], changed_byte=True)
    reader = rng.choice(
        (["selftest"], ["selftest"], ["selftest"], ["predict", "--data.prompt=sun moon", *NO_OTHER_LENS])
    )
    return command(f"{name}/{title}", [*reader, *CONFIG, f"--model.model_id={name}"])


def _edit_config(rng: Random, path: Path) -> str:
    tree = json.loads(path.read_text())
    if rng.random() < 0.15:
        tree["model_type"] = rng.choice(FAMILIES)
        put(path, to_json(tree))
        return f"config.json: model_type {tree['model_type']}"
    more = rng.sample(list(MORE_CONFIG), rng.randint(0, 3))
    given = {key: MORE_CONFIG[key] for key in more}
    if given and rng.random() < 0.5:
        key = rng.choice(more)
        given[key] = odd_value(rng)
        tree |= given
        put(path, to_json(tree))
        return f"config.json: {key} {shown(given[key])}"
    tree, what = edited(rng, tree | given, most_edits=2)
    put(path, to_json(tree))
    return f"config.json: {', '.join(more)} {what}"


def _edit_header(rng: Random, path: Path) -> str:
    """Parts of a safetensors file: eight bytes of length, JSON, data."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    if rng.random() < 0.2:
        length = rng.choice((0, 1, length + 1, length - 1, 2**31, 2**40, 2**63, 2**64 - 1))
        put(path, struct.pack("<Q", length) + data[8:])
        return f"{path.name}: header of {length} bytes"
    header, what = edited(rng, header, most_edits=2)
    text = to_json(header).encode(errors="surrogatepass")
    put(path, struct.pack("<Q", len(text)) + text + body)
    return f"{path.name}: {what}"


def _strange_file(rng: Random, folder: Path) -> str:
    """An additional file that loaders look for."""
    weights = next(iter(sorted(folder.glob("*.safetensors"))), None)
    files: dict[str, bytes] = {
        "adapter_config.json": b'{"peft_type": "LORA", "base_model_name_or_path": "x/y", "r": 4}',
        "generation_config.json": to_json(odd_value(rng)).encode(errors="surrogatepass"),
        "special_tokens_map.json": to_json(odd_value(rng)).encode(errors="surrogatepass"),
        "added_tokens.json": b'{"<new>": 99999, "sun": -1}',
        "chat_template.jinja": b"{% for x in range(10**9) %}{{ x }}{% endfor %}",
        "vocab.json": to_json(odd_value(rng)).encode(errors="surrogatepass"),
        "merges.txt": b"a\nb c d\n",
        "tokenizer.model": b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02",
        "preprocessor_config.json": b"[]",
        "model.safetensors.index.json": to_json(
            {
                "metadata": {},
                "weight_map": {"model.norm.weight": rng.choice(("../../run.yaml", "/dev/zero", "", ESCAPES, "x/y"))},
            }
        ).encode(),
    }
    name = rng.choice(list(files))
    if name == "tokenizer.model":
        (folder / "tokenizer.json").unlink()
    if name == "model.safetensors.index.json" and weights is not None and rng.random() < 0.7:
        weights.unlink()
    put(folder / name, files[name])
    return f"{name} added"


def _json_lines(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def _parquet(texts: list[str]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": texts}), sink, row_group_size=40)
    return sink.getvalue().to_pybytes()


def _zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(data)
    return sink.getvalue().to_pybytes()


FORMS: dict[str, Callable[[list[str]], bytes]] = {
    "a.jsonl": _json_lines,
    "a.json": _json_lines,
    "a.txt": lambda texts: "\n\n".join(texts).encode(),
    "a.parquet": _parquet,
    "a.jsonl.gz": lambda texts: gzip.compress(_json_lines(texts), mtime=0),
    "a.jsonl.bz2": lambda texts: bz2.compress(_json_lines(texts)),
    "a.jsonl.xz": lambda texts: lzma.compress(_json_lines(texts)),
    "a.jsonl.zst": lambda texts: _zstd(_json_lines(texts)),
    "a.csv": lambda texts: ("text\n" + "\n".join(texts)).encode(),
}
LINES = (
    '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}", '{"text": ' + "1" * 5000 + "}", '{"text": NaN}',
    '{"text": "\\ud800"}', "null", "[]", '{"text": "a", "text": "b"}', "{}", '{"text": null}', '{"text": ""}',
    '{"text": 1}', '{"text": ["a"]}', '{"text": {"a": 1}}', "x", "\x00", '{"text": "' + "sun " * 200_000 + '"}',
    '{"text": "' + "x" * 1_000_000 + '"}', '{"text": "\x1b[31m"}', '{"tekst": "a"}', "\ufeff{}", " ",
    '{"text": "a"} {"text": "b"}', '{"text": "<s><s></s>"}',
    '{"text": "' + ESCAPES.encode("unicode_escape").decode() + '"}', '"text"', "{",
)  # fmt: skip
CARDS = (
    "---\nconfigs: [\n---\n", "---\nconfigs: 1\n---\n", "---\nconfigs:\n- config_name: a\n---\n", "---\n[]\n---\n",
    "---\nnull\n---\n", "---\nconfigs:\n- config_name: default\n  data_files: ../../run.yaml\n---\n",
    "---\nconfigs:\n- config_name: default\n  data_files: '**'\n---\n",
    "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: /dev/zero\n---\n",
    "---\ndataset_info: 1\n---\n", "---\ndataset_info:\n  features: 3\n---\n", "---\nconfigs:\n- {}\n---\n",
    "---\nconfigs:\n- config_name: 1\n  data_files: 2\n---\n", "---\n",
    "---\nconfigs:\n- config_name: ../x\n  data_files: a.jsonl\n---\n",
    "---\nconfigs:\n- config_name: default\n  data_files: '[' \n---\n",
)  # fmt: skip
ODD_TABLES: dict[str, Callable[[], pa.Table]] = {
    "no columns": lambda: pa.table({}),
    "no rows": lambda: pa.table({"text": pa.array([], pa.string())}),
    "numbers": lambda: pa.table({"text": [1, 2, 3]}),
    "bytes": lambda: pa.table({"text": pa.array([b"a", b"\xff"] * 50)}),
    "text twice": lambda: pa.table([pa.array(["a"] * 99), pa.array(["b"] * 99)], names=["text", "text"]),
    "lists": lambda: pa.table({"text": [["a"], ["b"]]}),
    "structs": lambda: pa.table({"text": [{"a": "b"}]}),
    "all null": lambda: pa.table({"text": pa.array([None] * 100, pa.string())}),
    "null type": lambda: pa.table({"text": pa.nulls(100)}),
    "large strings": lambda: pa.table({"text": pa.array(["sun moon"] * 100, pa.large_string())}),
    "a dictionary": lambda: pa.table({"text": pa.array(["sun", "moon"] * 100).dictionary_encode()}),
    "a control character in a name": lambda: pa.table({ESCAPES: ["a"]}),
    "one text of a megabyte": lambda: pa.table({"text": ["sun " * 250_000]}),
}


def text(rng: Random, root: Path) -> Case:
    """A damaged text in any of the supported formats."""
    source = root / "text"
    texts = [
        json.loads(line)["text"] for path in sorted(source.glob("*.jsonl")) for line in path.read_text().splitlines()
    ]
    form = rng.choice(list(FORMS))
    data, way = FORMS[form](texts), rng.random()
    remove(source)
    path = source / form
    title = form
    if way < 0.35:
        put(path, data)
        title = damaged(rng, path)
    elif way < 0.55:
        line, place = (
            rng.choice((*LINES, to_json(odd_value(rng)), to_json({"text": odd_value(rng)}))),
            rng.choice((0, 1, 90, 199)),
        )
        lines = _json_lines(texts).decode().splitlines()
        lines.insert(place, line)
        path = source / "a.jsonl"
        put(path, "\n".join(lines))
        title = f"line {place + 1}: {shown(line)}"
    elif way < 0.7:
        put(source / "a.jsonl", _json_lines(texts))
        card = rng.choice((*CARDS, f"---\n{rng.choice(YAMLS)}\n---\n"))
        put(source / "README.md", card)
        title = f"card: {shown(card)}"
    elif way < 0.85:
        what = rng.choice(list(ODD_TABLES))
        sink = pa.BufferOutputStream()
        pq.write_table(ODD_TABLES[what](), sink)
        put(source / "a.parquet", sink.getvalue().to_pybytes())
        title = f"parquet: {what}"
    elif way < 0.95:
        put(path, data)
        title = f"{form} {replaced(rng, path)}"
    else:
        name = rng.choice(
            (
                "a.jsonl ",
                "a\nb.jsonl",
                "a\x1b[31m.jsonl",
                "[x].jsonl",
                "a*.jsonl",
                "\udcff.jsonl",
                "train/a.jsonl",
                "a.zip",
                "é.jsonl",
            )
        )
        put(source / name, data if name == "a.zip" else _json_lines(texts))
        title = f"file {name!r}"
    given = f"--data.dataset={'text' if rng.random() < 0.7 or not path.exists() else path.relative_to(root)}"
    reader = rng.choice(("validate", "validate", "fit", "prism"))
    workers = ["--data.num_workers=1"] if reader != "validate" and rng.random() < 0.3 else []
    if rng.random() < 0.03:
        title, given = f"{title}; data set {(name := odd_text(rng))!r}", f"--data.dataset={name}".replace("\0", "")
    return command(title, [reader, *CONFIG, given, *workers])


KINDS = (
    Kind("model", 1300, model),
    Kind("text", 650, text),
)
