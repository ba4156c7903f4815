import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType, SimpleNamespace
from typing import cast

import torch

from logos_pl.data.prompt_types import Prompt
from logos_pl.modules.base import LensModule
from logos_pl.sweeps.document import OutputBuilder
from logos_pl.sweeps.document_summaries import PromptSummary
from logos_pl.sweeps.files import SweepFiles
from logos_pl.sweeps.folder import SweepFolder
from logos_pl.sweeps.milestones import milestones
from logos_pl.sweeps.plots import DRAWN_PROMPTS
from logos_pl.sweeps.records import NextTokenRecord, PairRow, PromptRecords, TopToken
from tests.sweeps.made_records import made_attribution
from tests.sweeps.swept import LENSES, random_prompt

NUM_BLOCKS = 32


def read(i: int) -> PromptRecords:
    """A prompt at the size of a large model: 33 rows under two lenses, ten tokens of its own in every row."""
    record = random_prompt(i, Prompt(f"p{i}", "orig", f"Text {i}", "Berlin"), num_blocks=NUM_BLOCKS)
    for rows in record.next_token.values():
        for k, row in enumerate(rows):
            top = tuple(TopToken(1000 * i + j, f" token {i} {k} {j}", 0.01 * j + 1e-6 * i) for j in range(10))
            rows[k] = row._replace(top=top)
    return record


def files_in(folder: Path, *, attribution: bool = False) -> SweepFiles:
    frozen = SimpleNamespace(clean_model_name="m", num_blocks=NUM_BLOCKS, dtype=torch.float32)
    lens = SimpleNamespace(rows=range(NUM_BLOCKS + 1), head=SimpleNamespace(num_rows=NUM_BLOCKS + 1))
    module = cast(LensModule, SimpleNamespace(frozen=frozen, lenses=dict.fromkeys(LENSES, lens), origins={}))
    return SweepFiles(SweepFolder(folder), module, "sample", command="logos-pl predict", attribution=attribution)


def objects_of(root: object) -> Iterator[object]:
    """All that an object keeps alive, itself included; code is nobody's."""
    seen, waiting = set[int](), [root]
    while waiting:
        it = waiting.pop()
        if id(it) not in seen and not isinstance(it, type | ModuleType | FunctionType):
            seen.add(id(it))
            waiting += gc.get_referents(it)
            yield it


def test_of_a_further_prompt_a_sweep_keeps_a_few_kilobytes(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    sizes, done = [], 0
    for end in (70, 170, 370):
        for i in range(done, end):
            record = read(i)
            files.add(record, {lens: milestones(rows) for lens, rows in record.next_token.items()})
        done = end
        sizes.append(sum(map(sys.getsizeof, objects_of(files))))
    files._open_files.close()

    hundred, two_hundred = sizes[1] - sizes[0], sizes[2] - sizes[1]
    print(f"{hundred / 100:.0f} and {two_hundred / 200:.0f} bytes per prompt")
    assert 1_000 * 100 < hundred < 12_000 * 100
    assert two_hundred < 12_000 * 200
    assert sum(isinstance(it, PromptRecords) for it in objects_of(files)) == DRAWN_PROMPTS


def test_prompts_left_out_of_the_attribution_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    files = files_in(tmp_path, attribution=True)
    whole = made_attribution({"embedding": 0.5, "rounding": 0.25})._replace(model_logit_nats=0.95)
    for i, change in enumerate(
        [{"attribution": whole}, {"not_attributed": "It does not add up."}, {"not_attributed": "Nor does it."}]
    ):
        record = read(i)._replace(**change)
        files.add(record, {lens: milestones(rows) for lens, rows in record.next_token.items()})
    files._open_files.close()
    assert files.exactness() == (
        "Embedding, attention, MLP and biases add up to the model's own logits within 0.2 nats in float32. "
        "Left out of the attribution: 2 of 3 prompts. It does not add up. The others are in the JSON, under "
        "diagnostics."
    )


def test_what_a_report_is_made_of_keeps_no_record() -> None:
    builder = OutputBuilder()
    for i in range(3):
        builder.add(read(i))

    kept = list(objects_of(builder.swept()))

    assert sum(isinstance(it, PromptSummary) for it in kept) == 3
    assert not any(isinstance(it, PromptRecords | NextTokenRecord | PairRow | TopToken) for it in kept)
