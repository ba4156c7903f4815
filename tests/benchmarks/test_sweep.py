import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.peak import STATUS
from benchmarks.prompts import ANSWER_TOKENS, PromptSetting, make_batches, make_reader
from benchmarks.reading import records, write
from benchmarks.sweep import main
from benchmarks.sweep_settings import parse
from benchmarks.timing import alternate
from logos_pl.data.prompts import TOKENS_PER_BATCH
from logos_pl.lm.frozen import FrozenLM
from logos_pl.settings.lens import TuningSettings
from logos_pl.sweeps.record_csv import read_records
from tests.tiny import make_model

pytestmark = pytest.mark.slow

D, VOCAB, BLOCKS, INNER, RANK = 16, 23, 4, 32, 3
LENSES, ROWS = 2, BLOCKS + 1
COUNTS, MEMORY_COUNTS = [1, 3], [2, 4]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    settings = {
        "model": {"model_id": str(make_model(folder / "tiny-llama")), "rank": RANK},
        "prompts": {"counts": COUNTS, "memory_counts": MEMORY_COUNTS, "min_tokens": 4, "max_tokens": 7},
        "data": {"tokens": 1000},
        "sweep": {"raw_lens": "full"},
        "repeats": 2,
        "device": "cpu",
    }
    path = folder / "tiny.yaml"
    path.write_text(json.dumps(settings))
    return path


def own_tokens(count: int) -> list[int]:
    batches = make_batches(PromptSetting(min_tokens=4, max_tokens=7), count, VOCAB)
    return [len(tokenized.ids) for batch in batches for tokenized in batch.prompts]


def test_a_run_from_end_to_end_counts_what_it_did(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the process that measures memory finds the project from anywhere
    path = tmp_path / "figures.json"
    assert main(["--config", str(config), "--random_weights", "--cpu_time", "--json", str(path)]) == 0
    figures: dict[str, Any] = json.loads(path.read_text())

    assert [t["prompts"] for t in figures["times"]] == COUNTS
    for count, measured in zip(COUNTS, figures["times"], strict=True):
        own = own_tokens(count)
        tokens = sum(own) + count * (ANSWER_TOKENS - 1)
        assert measured["tokens"] == tokens
        assert (measured["lenses"], measured["rows"]) == (LENSES, ROWS)
        assert measured["readings"] == LENSES * ROWS * tokens
        assert measured["records"] == LENSES * ROWS * (sum(own) + count)
        assert measured["csv_bytes"] > 100 * measured["records"]
        assert measured["read_flop"] > measured["floor_flop"]
        low, high = measured["read_to_floor"]["lowest"], measured["read_to_floor"]["highest"]
        assert 0 < low <= measured["read_to_floor"]["median"] <= high
        assert measured["forward_seconds"] > 0

    # One prompt has no padding. Products of a block with one of two key-value heads, in and out; then queries with
    # keys, weights with values; and one column of logits for each lens, row and token.
    tokens = own_tokens(1)[0] + ANSWER_TOKENS - 1
    block = 2 * tokens * (D * D + 2 * D * (D // 2) + D * D + 3 * D * INNER) + 2 * tokens**2 * 2 * D
    assert figures["times"][0]["floor_flop"] == BLOCKS * block + LENSES * ROWS * tokens * 2 * D * VOCAB

    assert set(figures["not_measured"]) == (set() if STATUS.is_file() else {"memory"})
    if STATUS.is_file():
        assert [m["prompts"] for m in figures["memory"]] == MEMORY_COUNTS
        assert all(0 < m["peak_bytes"] < 2**28 for m in figures["memory"])
        assert all(m["tokens"] == m["tokens_in_largest_batch"] for m in figures["memory"])

    printed = capsys.readouterr().out
    assert "tiny-llama" in printed
    assert "CPU times of the process" in printed
    assert figures["machine"]["cpu"] in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prompts.max_tokens", "64"], "choose at most 63"),
        (["--prompts.min_tokens", "8"], "no minimum above the maximum"),
        (["--prompts.counts", "[0]"], "from 1 on"),
        (["--repeats", "0"], "give 1 or more"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_sentence(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["--config", str(config), "--random_weights", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_no_numbers_of_prompts_give_no_table_of_memory(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(config), "--random_weights", "--prompts.memory_counts", "[]"]) == 0
    assert "Peak memory" not in capsys.readouterr().out


def test_few_prompts_are_the_first_of_many_and_batches_are_a_sweeps_own() -> None:
    setting = PromptSetting()
    few, many = ([a for batch in make_batches(setting, n, 100) for a in batch.prompts] for n in (8, 256))
    assert many[:8] == few
    assert {len(tokenized.ids) for tokenized in many} == set(range(16, 31))
    batches = make_batches(setting, 256, 100)
    assert len(batches) > 1
    assert all(batch.input_ids.numel() <= TOKENS_PER_BATCH for batch in batches)


def test_the_tuned_lens_of_the_benchmark_reads_something_else_than_the_norm_lens(tmp_path: Path) -> None:
    model_id = str(make_model(tmp_path / "tiny-llama"))
    lm = FrozenLM.load(model_id)
    reader = make_reader(lm, TuningSettings(model_id=model_id, rank=RANK, loss_block_mib=1))
    (batch,) = make_batches(PromptSetting(min_tokens=4, max_tokens=7), 2, VOCAB)
    reading = reader.read(batch)
    differ = (reading.lenses["norm"].entropy_bits != reading.lenses["tuned"].entropy_bits).any(1)
    assert differ.tolist() == [False, True, True, True, False]

    write(records([reading]), reader.lenses, tmp_path)
    for lens in reader.lenses:
        tokens = sum(len(tokenized.ids) for tokenized in batch.prompts)
        assert len(list(read_records(tmp_path / f"records-{lens}.csv"))) == ROWS * tokens
        assert len(list(read_records(tmp_path / f"pure-next-token-{lens}.csv"))) == ROWS * 2


@pytest.mark.skipif(not STATUS.is_file(), reason="needs /proc")
def test_the_peak_is_that_of_the_work_and_not_of_what_was_held_before() -> None:
    mib = 2**20
    work = f"""
import torch
from benchmarks.peak import peak_here
before = torch.ones(100 * {mib} // 4)
del before  # larger than the work, and over before it begins
print(peak_here(lambda: torch.ones(64 * {mib} // 4), torch.device("cpu")))
"""
    # In a process of its own, as in a benchmark: from a large one the kernel may take pages back meanwhile.
    done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=True)
    assert 60 * mib < int(done.stdout) < 90 * mib


def test_times_are_those_of_the_clock_that_is_given() -> None:
    ticks = iter(range(100))
    times = alternate({"a": lambda: next(ticks)}, 2, torch.device("cpu"), clock=lambda: float(next(ticks)))
    assert times == {"a": [2.0, 2.0]}
    assert parse([]).run.clock is time.perf_counter
    assert parse(["--cpu_time"]).run.clock is time.process_time
