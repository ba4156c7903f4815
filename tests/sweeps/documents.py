"""Documents of made-up sweeps, and what stands in them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from jsonschema import Draft202012Validator

from logos_pl.artifacts.provenance_schema import Environment
from logos_pl.artifacts.tuned_lens_format import ImportedOrigin
from logos_pl.data.prompt_types import Prompt
from logos_pl.kinds.tuned import TunedLensOrigin
from logos_pl.sweeps.document import OutputBuilder, to_json
from logos_pl.sweeps.document_schema import Files, ModelIdentity, ModelStats, Output, RunFacts
from logos_pl.sweeps.records import PromptRecords
from logos_pl.sweeps.schema_file import output_schema

SCHEMA = output_schema()
MODEL = ModelIdentity("org/Tiny-8", "Tiny-8", "a" * 40, "b" * 40)
ENVIRONMENT = Environment("2.13.0", "5.23.0", "2.6.6", "cuda:0 (NVIDIA H200)")
START = datetime(2025, 3, 1, 12, 0, 59, tzinfo=UTC)
FACTS = RunFacts(
    START,
    START + timedelta(seconds=2.5),
    "0.1.0",
    "c" * 40 + "-dirty",
    "cuda",
    "bf16",
    "final",
    ENVIRONMENT,
    "float32",
    0.9,
    0.05,
)
UNKNOWN = RunFacts(START, START, "0.1.0", None, None, None, None, None)
FILES = Files(
    records={"norm": "output-Tiny-8-records.csv", "tuned": "output-Tiny-8-records-tuned.csv"},
    next_token={"norm": "output-Tiny-8-pure-next-token.csv"},
    decomposition=None,
    plots=["output-Tiny-8-kl.png"],
    page="output-Tiny-8.html",
    report=None,
)
STATS = ModelStats("LlamaForCausalLM", 8_000, 8, 16, 100, None, True, "rms", None, 1.0, "d" * 64)
ORIGIN = TunedLensOrigin(
    "org/Tiny-8", "a" * 40, "0.1.0", None, "final", "random", 316, 4, 32_000_000, 1954, "e" * 64, None
)
IMPORTED = ImportedOrigin("org/Tiny-8", "main", "float16", None, "f" * 64)._asdict()
FALLING = (8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 0.9, 0.0)
NO_FILLER = Prompt("pos", "no_filler", "Berlin is", "Berlin", None, "Germany → Berlin", "capital")
CONTROL = Prompt("ctl", "orig", "Paris is simply", "Paris", "Berlin", "France → Paris", "capital")


LAST_RANK_1 = {8: {"answer_rank": 1, "is_answer": True}}


def document(
    *records: PromptRecords,
    raw_lens: Any = "sample",
    tuned: TunedLensOrigin | None = None,
    imported: dict[str, Any] | None = None,
    files: Files = FILES,
) -> dict[str, Any]:
    """The document of a sweep as it is read back from the file, after the schema has passed it."""
    builder = OutputBuilder(raw_lens)
    for record in records:
        builder.add(record)
    return read_back(builder.finish(MODEL, FACTS, files, STATS, {"tuned": tuned, "imported": imported}))


def read_back(output: Output) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(to_json(output))
    Draft202012Validator(SCHEMA).validate(plain)
    return plain
