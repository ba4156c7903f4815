import copy
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import fit, settings
from benchmarks.architectures import ARCHITECTURES
from benchmarks.fit import main
from benchmarks.loss import LossSetting, fused, make_inputs, naive
from benchmarks.peak import STATUS
from benchmarks.step import measure_step
from benchmarks.timing import alternate, ratio
from logos_pl.errors import InputError
from tests.tiny import make_corpus, make_model

pytestmark = pytest.mark.slow

D, VOCAB, BLOCKS, SEQ, MICRO, POSITIONS, RANK = 16, 23, 4, 32, 4, 4, 3
VOCABS = [VOCAB, 4000]


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
        "data": {
            "dataset": str(make_corpus(folder / "corpus")),
            "tokens": 100 * MICRO * SEQ,
            "seq_len": SEQ,
            "effective_batch_seqs": 2 * MICRO,
            "micro_batch_seqs": MICRO,
            "positions_per_seq": POSITIONS,
            "held_out_frac": 0.1,
        },
        "loss": {"vocab_sizes": [40], "memory_vocab_sizes": [40_000], "d_head": 8, "rows": 3, "positions": 100},
        "trainer": {"accelerator": "cpu"},
        "repeats": 2,
        "device": "cpu",
    }
    path = folder / "tiny.yaml"
    path.write_text(json.dumps(settings))
    return path


@pytest.fixture
def figures(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    path = tmp_path / "figures.json"
    arguments = ["--random_weights", "--vocab_sizes", str(VOCABS), "--cpu_time", "--json", str(path)]
    assert main(["--config", str(config), *arguments]) == 0
    read: dict[str, Any] = json.loads(path.read_text()) | {"printed": capsys.readouterr().out}
    return read


def test_a_run_from_end_to_end_counts_what_it_did(figures: dict[str, Any]) -> None:
    step, wider = figures["steps"]
    missing = {"memory": STATUS.is_file(), "package": importlib.util.find_spec("tuned_lens") is not None}
    assert set(figures["not_measured"]) == {name for name, there in missing.items() if not there}
    assert (step["vocab"], wider["vocab"]) == tuple(VOCABS)
    assert wider["forward"]["flop"] == step["forward"]["flop"]
    assert wider["steps"][-1]["added_flop"] > 10 * step["steps"][-1]["added_flop"]
    assert 0 < step["log_seconds"] < 1
    assert [s["rows"] for s in step["steps"]] == [1, 3]
    assert [s["pairs"] for s in step["steps"]] == [MICRO * POSITIONS, 3 * MICRO * POSITIONS]
    assert step["forward"]["tokens"] == MICRO * SEQ
    for measured in step["steps"]:
        assert measured["tokens_per_s"] == pytest.approx(MICRO * SEQ / measured["seconds"])
        assert measured["pairs_per_s"] == pytest.approx(measured["pairs"] / measured["seconds"])

    # Products of a block with one of two key-value heads, in and out; then queries with keys, weights with values.
    tokens, inner = MICRO * SEQ, 32
    block = 2 * tokens * (D * D + 2 * D * (D // 2) + D * D + 3 * D * inner) + 2 * MICRO * SEQ * SEQ * 2 * D
    assert step["forward"]["flop"] == BLOCKS * block

    # Per pair 4·d·V for the head, forward 4·d·rank and backward 6·d·rank for the translator (its input needs no
    # gradient); per position 2·d·V for the teacher. The bias-only lens takes 2·d·V per pair, per row and per position.
    for measured in step["steps"]:
        pairs, teacher = measured["pairs"], MICRO * POSITIONS * 2 * D * VOCAB
        bias_only = 2 * D * VOCAB * (pairs + measured["rows"]) + teacher
        assert measured["added_flop"] == pairs * (4 * D * VOCAB + 10 * D * RANK) + teacher + bias_only

    loss = figures["loss_times"][0]
    assert loss["pairs"] == 300
    assert loss["fused_flop"] == loss["naive_flop"] == 300 * 4 * 8 * 40 + 100 * 2 * 8 * 40
    peak = loss["peak_flop_per_s"]
    assert loss["lens_mfu"] == pytest.approx(300 * 4 * 8 * 40 / loss["fused_seconds"] / peak)

    if STATUS.is_file():
        memory = figures["loss_memory"][0]
        assert memory["logits_bytes"] == 300 * 40_000 * 4
        assert 3 < memory["naive_bytes"] / memory["logits_bytes"] < 6.5
        assert 0.9 < memory["fused_bytes"] / memory["logits_bytes"] < 3, "one block of logits is held at least"
        check_step_memory(*figures["step_memory"])

    assert figures["data"]["tokens"] == figures["data"]["batches"] * MICRO * SEQ
    assert figures["data"]["num_workers"] == 1
    assert "tiny-llama" in figures["printed"]
    assert figures["machine"]["cpu"] in figures["printed"]


def check_step_memory(narrow: dict[str, int], wide: dict[str, int]) -> None:
    """Counted by hand where it is counted; what is measured is at least what a step must hold at once."""
    block = 2 * D * D + 2 * D * (D // 2) + 3 * D * 32 + 2 * D
    rope = 2 * 4 * (D // 4)  # two buffers of half a head's width each
    assert narrow["model_bytes"] == 4 * (2 * VOCAB * D + BLOCKS * block + D) + rope
    numbers = 3 * (2 * D * RANK + D + 1) + 3 * (D + 1)  # tuned lens and bias-only lens
    counters = 4 * 6  # a step count for each of AdamW's tensors; the bias-only lens has no U and V, but counts for them
    # Weights, averages and two moments; at the start no gradient yet, and no basis.
    assert 0 <= narrow["lens_bytes"] - 4 * 4 * numbers - counters <= 2 * 4
    logits = 4 * 3 * MICRO * POSITIONS * wide["vocab"]
    assert wide["step_peak_bytes"] > logits
    assert wide["accumulated_peak_bytes"] < wide["step_peak_bytes"] + logits / 2, "micro-batches leave nothing behind"


def test_what_cannot_be_had_is_said_and_the_rest_is_measured(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(*_: object) -> None:
        raise InputError("Peak memory is measured elsewhere.")

    monkeypatch.setattr(fit, "measure_step_memory", nowhere)
    assert main(["--config", str(config), "--data.dataset", str(tmp_path / "nothing")]) == 0
    printed = capsys.readouterr().out
    assert "The data pipeline: not measured. " in printed
    assert "Peak memory: not measured. Peak memory is measured elsewhere." in printed

    assert main(["--config", str(config), "--vocab_sizes", "[40]"]) == 2
    assert "The vocabulary of" in capsys.readouterr().err
    assert main(["--config", str(config), "--model.model_id", str(tmp_path)]) == 2
    assert "has no config.json" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["llama3_8b", "gemma2_9b", "gpt2"])
def test_random_weights_of_a_shipped_configuration_need_no_file_and_no_network(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes shrunk; the architecture, its head and the step are the real ones."""
    config = Path(__file__).parents[2] / "configs" / f"{name}.yaml"
    asked = settings.parse(["--config", str(config), "--random_weights", "--device", "cpu", "--data.seq_len", "48"])
    assert (asked.data.dataset, asked.tokenizer) == ("demo", ("demo", None))
    shrunk = copy.deepcopy(ARCHITECTURES[asked.model.model_id])
    widths = {"hidden_size": 32, "intermediate_size": 64, "head_dim": 8, "num_hidden_layers": 3}
    for key, value in (widths | {"num_attention_heads": 4, "num_key_value_heads": 2}).items():
        if hasattr(shrunk, key):
            setattr(shrunk, key, value)
    monkeypatch.setitem(ARCHITECTURES, asked.model.model_id, shrunk)
    monkeypatch.setattr("benchmarks.settings.locate", lambda *_: pytest.fail("a file was looked for"))

    lm = settings.make_model(asked.model, asked.run, vocab_size=300)
    assert (lm.vocab_size, lm.num_blocks, shrunk.vocab_size > 300) == (300, 3, True)
    tuning, data = settings.make_tuning(asked, lm), settings.make_data(asked, lm)
    figures = measure_step(lm, tuning, data, repeats=1, clock=asked.run.clock)
    assert figures.micro_batch_seqs == 8
    assert [step.rows for step in figures.steps] == [1, 2]


@pytest.mark.parametrize("vocab", [7, 300])
def test_both_losses_are_the_same_number_with_the_same_gradient(vocab: int) -> None:
    setting = LossSetting(d_head=8, rows=3, positions=10)
    one, other = (make_inputs(setting, vocab, torch.device("cpu"), torch.float32) for _ in range(2))
    torch.testing.assert_close(fused(one), naive(other), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one.x.grad, other.x.grad, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(one.inv_tau.grad, other.inv_tau.grad, rtol=1e-4, atol=1e-6)


def test_variants_are_run_in_turns_and_each_round_starts_with_another() -> None:
    seen: list[str] = []
    variants = {name: lambda name=name: seen.append(name) for name in "abc"}
    times = alternate(variants, 3, torch.device("cpu"))

    assert "".join(seen) == "abc" + "abc" + "bca" + "cab"
    assert {len(seconds) for seconds in times.values()} == {3}
    assert ratio({"a": [2.0, 9.0, 4.0], "b": [1.0, 3.0, 1.0]}, "a", "b") == (3.0, 2.0, 4.0)
