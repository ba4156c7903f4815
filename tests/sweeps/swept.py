"""A made-up sweep with a number of its own everywhere, and the files that a run would write beside its report."""

import csv
import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from logos_pl.data.prompt_types import AnswerTokens, Prompt
from logos_pl.sweeps.document import OutputBuilder, to_json
from logos_pl.sweeps.document_prompt import RawLens
from logos_pl.sweeps.document_schema import NO_FILES, ModelIdentity, ModelStats, RunFacts
from logos_pl.sweeps.record_csv import RecordWriter
from logos_pl.sweeps.records import LastRowCheck, NextTokenRecord, NonFinite, PairRow, PromptRecords
from logos_pl.sweeps.report_input import ReportInput
from tests.sweeps.made_records import ANSWER, prompt_records

NUM_BLOCKS = 8
LENSES = ("norm", "tuned")


def suffix(lens: str) -> str:
    return "" if lens == "norm" else f"-{lens}"


def files(name: str, lenses: Sequence[str] = LENSES) -> dict[str, str]:
    kinds = [f"pure-next-token{suffix(lens)}" for lens in lenses]
    return {"json": f"output-{name}.json"} | {kind: f"output-{name}-{kind}.csv" for kind in kinds}


def random_prompt(
    seed: int,
    prompt: Prompt,
    answer_tokens: AnswerTokens = ANSWER,
    lenses: Sequence[str] = LENSES,
    num_blocks: int = NUM_BLOCKS,
) -> PromptRecords:
    """A prompt whose every reading is drawn anew."""
    draw = random.Random(seed)
    rank = None if answer_tokens.first_id is None else 1

    def row(layer: int) -> dict[str, object]:
        at = None if rank is None else draw.choice([1, 3, 7, 40]) if layer else 40
        p, copy = draw.random(), [draw.random() < 0.2 for _ in range(8)]
        return {
            "kl_from_final_bits": draw.uniform(0, 9), "entropy_bits": draw.uniform(0, 9),
            "teacher_entropy_bits": draw.uniform(0, 9), "cos_to_final": draw.uniform(-0.2, 0.7), "answer_rank": at,
            "is_answer": None if at is None else at == 1, "p_answer": None if at is None else p,
            "answer_nll_bits": None if at is None else draw.random(), "copy_collapse": copy[0],
            "copy_soft": tuple(copy[1:4]), "copy_at": tuple(copy[4:]),
            "control_margin": draw.uniform(-1, 1) if prompt.contrast else None,
        }  # fmt: skip

    rows = range(num_blocks + 1)
    record = prompt_records(
        {lens: [draw.uniform(0, 3) for _ in rows] for lens in lenses},
        prompt=prompt,
        answer_tokens=answer_tokens,
        rows={lens: {layer: row(layer) for layer in rows} for lens in lenses},
    )

    def pairs() -> tuple[PairRow, ...]:
        ranks = (lambda: None) if rank is None else (lambda: draw.choice([1, 2, 9]))
        return tuple(
            PairRow(r, draw.uniform(0, 1.2), draw.random() < 0.5, draw.random(), ranks(), ranks()) for r in rows
        )

    last = LastRowCheck(draw.choice([2e-6, 0.3]), True, draw.uniform(0.5, 2), draw.uniform(0, 0.1))
    return record._replace(norm_to_raw=pairs(), final_to_next=pairs(), last_row=last)


def sweep_records(count: int = 3, lenses: Sequence[str] = LENSES) -> list[PromptRecords]:
    """Facts with and without filler, a control, an unresolved answer, one without, a place that is not finite."""
    prompts: list[tuple[Prompt, AnswerTokens]] = []
    for i in range(count):
        for variant in ("orig", "no_filler"):
            prompts.append((Prompt(f"f{i}", variant, f"Fact {i}, {variant}", "Berlin", None, "a → b"), ANSWER))
    prompts += [
        (Prompt("ctl", "orig", "Control", "Paris", "Berlin"), ANSWER),
        (Prompt("ctl2", "orig", "Control", "Rome", "Berlin"), ANSWER),
        (Prompt("merged", "orig", "Odd", "ly"), AnswerTokens("unresolved")),
        (Prompt("open", "orig", "What"), AnswerTokens("none")),
    ]
    records = [
        random_prompt(seed, prompt, answer_tokens, lenses) for seed, (prompt, answer_tokens) in enumerate(prompts)
    ]
    broken = (NonFinite("norm", 2, 1), NonFinite("norm", 2, 3))
    return [records[0]._replace(nonfinite=broken), *records[1:]]


def builder_of(records: Sequence[PromptRecords], raw_lens: RawLens = "sample") -> OutputBuilder:
    """What a run takes in of its prompts."""
    builder = OutputBuilder(raw_lens)
    for record in records:
        builder.add(record)
    return builder


def report_input(
    records: Sequence[PromptRecords],
    name: str = "m",
    num_blocks: int = NUM_BLOCKS,
    lenses: Sequence[str] = LENSES,
    raw_lens: RawLens = "sample",
) -> ReportInput:
    """What a run makes its report of."""
    return ReportInput(f"org/{name}", name, num_blocks, builder_of(records, raw_lens).swept(), files(name, lenses))


def sweep(
    name: str = "demo", count: int = 3, lenses: Sequence[str] = LENSES, raw_lens: RawLens = "sample"
) -> ReportInput:
    """What a report on `sweep_records` is made of."""
    return report_input(sweep_records(count, lenses), name, NUM_BLOCKS, lenses, raw_lens)


def write(facts: ReportInput, folder: Path) -> None:
    """The JSON and the CSV files of a sweep, as a run writes them; its records are drawn again, and are the same."""
    lenses = facts.swept.lenses
    records = sweep_records((len(facts.swept.prompts) - 4) // 2, lenses)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    output = builder_of(records, facts.swept.diagnostics[0]["raw_versus_norm"]["mode"]).finish(
        ModelIdentity(facts.model_id, facts.clean_model_name, None, None),
        RunFacts(now, now, "0", None, None, None, None, None),
        NO_FILES,
        ModelStats("Toy", 1, facts.num_blocks, 1, 1, None, False, "rms", None, 1.0, ""),
        {},
    )
    (folder / facts.files["json"]).write_text(to_json(output))
    for lens in lenses:
        with RecordWriter(folder / facts.files[f"pure-next-token{suffix(lens)}"], NextTokenRecord) as writer:
            for record in records:
                writer.write(record.next_token[lens])


def look_up(node: Any, path: str) -> Any:
    """What a JSON document has at a path such as `a[0].b.1.0`, where a key may have dots itself."""
    if not path:
        return node
    if path.startswith("["):
        index, rest = path[1:].split("]", 1)
        return look_up(node[int(index)], rest.removeprefix("."))
    for key in sorted(node, key=len, reverse=True):
        rest = path.removeprefix(key)
        if path.startswith(key) and rest[:1] in ("", ".", "["):
            return look_up(node[key], rest.removeprefix("."))
    raise KeyError(path)


def csv_lines(path: Path, conditions: Sequence[str]) -> list[dict[str, str]]:
    """Lines of a CSV file that meet conditions such as `layer 4`."""
    wanted = dict(condition.split(" ", 1) for condition in conditions)
    with path.open(newline="") as file:
        return [line for line in csv.DictReader(file) if all(line[key] == value for key, value in wanted.items())]


def load(path: Path) -> Any:
    return json.loads(path.read_text())
