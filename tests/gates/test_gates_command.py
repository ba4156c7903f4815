"""Verdicts of `logos-pl test` on the bundled demo, by the command line, against a recomputation in float64."""

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from matplotlib.figure import Figure

from logos_pl.artifacts import load_tuned_lens
from logos_pl.artifacts.tuned_lens import load_lenses, save_tuned_lens
from logos_pl.artifacts.weights import capacity_of
from logos_pl.cli.entry import main
from logos_pl.lenses.translator import Translators
from tests.gates import oracle
from tests.tiny import own

pytestmark = pytest.mark.slow

VAL_SEQS, TEST_SEQS = 4, 8
NUM_BLOCKS, DEPTHS = oracle.NUM_BLOCKS, oracle.DEPTHS
DEMO = [
    "--model.model_id=demo",
    "--model.rank=16",
    "--data.dataset=demo",
    "--data.tokens=16_384",
    f"--data.seq_len={oracle.SEQ_LEN}",
    "--data.effective_batch_seqs=8",
    f"--data.position_range=[{oracle.FIRST / oracle.SEQ_LEN}, 1.0]",
    f"--data.positions_per_seq={oracle.SEQ_LEN - oracle.FIRST}",
    f"--data.held_out_frac={oracle.HELD_OUT_FRAC}",
    f"--data.val_seqs={VAL_SEQS}",
    f"--data.test_seqs={TEST_SEQS}",
    "--data.num_workers=0",
    "--trainer.accelerator=cpu",
]
LENSES = ("tuned", "norm", "norm_tau", "bias")


def command(name: str, folder: Path, *more: str) -> int:
    places = (f"--trainer.default_root_dir={folder / 'logs'}", f"--export.folder={folder / 'lenses'}")
    return main(own(name, [*DEMO, *places, *more]))


class Run(NamedTuple):
    """A lens and what the command made of it."""

    folder: Path
    status: int
    document: dict[str, Any]
    printed: str

    @property
    def lens(self) -> Path:
        return self.folder / "lenses" / "demo"


def evaluate(folder: Path, *more: str) -> Run:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = command("test", folder, *more)
    document = json.loads((folder / "lenses" / "demo" / "gates.json").read_text())
    return Run(folder, status, document, printed.getvalue())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A lens that was fitted for 32 steps, and evaluated."""
    folder = tmp_path_factory.mktemp("trained")
    assert command("fit", folder, "--model.lr=4e-3") == 0
    return evaluate(folder)


@pytest.fixture(scope="module")
def bias_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lens of bias and temperature alone, fitted at a rate that makes it better than none within 32 steps."""
    folder = tmp_path_factory.mktemp("bias")
    assert command("fit", folder, "--model.rank=0", "--model.lr=0.12") == 0
    return folder


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blank pictures: they take longer than all the rest, and are looked at elsewhere."""
    for name in ("rows_figure", "gains_figure"):
        monkeypatch.setattr(f"logos_pl.gates.writer.{name}", lambda *given: Figure(figsize=(1, 1)))
    monkeypatch.setattr("logos_pl.gates.unspoken_result.unspoken_figure", lambda *given: Figure(figsize=(1, 1)))


@pytest.fixture(scope="module")
def lenses(trained: Run) -> dict[str, oracle.Lens]:
    """All four lenses in float64; the temperatures are found anew."""
    weights, bias_only = (
        torch.load(trained.lens / f"{name}.pt", weights_only=True) for name in ("weights", "bias_only")
    )
    inv_tau = {row: oracle.best_inv_tau(row, VAL_SEQS) for row in DEPTHS.values()}
    return {
        "tuned": oracle.Lens(weights),
        "norm": oracle.Lens(),
        "norm_tau": oracle.Lens(inv_tau=inv_tau),
        "bias": oracle.Lens(bias_only),
    }


@pytest.fixture(scope="module")
def text(lenses: dict[str, oracle.Lens]) -> dict[str, oracle.Text]:
    return {name: lens.text(TEST_SEQS) for name, lens in lenses.items()}


@pytest.fixture(scope="module")
def prompts(lenses: dict[str, oracle.Lens]) -> dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    return {name: lens.prompts() for name, lens in lenses.items()}


def first_within(ranks: torch.Tensor, rank: int) -> list[int]:
    """Per fact, the first row within a rank; n + 1 where none is."""
    return [next((row for row, r in enumerate(column) if r <= rank), NUM_BLOCKS + 1) for column in ranks.T.tolist()]


# A trained lens, recomputed


def test_the_whole_suite_and_the_whole_held_out_text_are_measured(trained: Run) -> None:
    document = trained.document
    assert len(oracle.facts()) == document["prompts"]["given"] == document["prompts"]["used"] >= 60
    assert document["held_out_text"]["sequences"] == TEST_SEQS
    assert document["rows_at_depth"] == DEPTHS
    on = document["acceptance"]["evaluated_on"]
    assert on["suite_sha256"] == hashlib.sha256(oracle.FACTS.read_bytes()).hexdigest()
    assert (on["facts"], on["sequences"], on["seq_len"]) == (len(oracle.facts()), TEST_SEQS, oracle.SEQ_LEN)
    assert (on["held_out_frac"], on["dtype"], on["device"]) == (oracle.HELD_OUT_FRAC, "float32", "cpu")
    assert document["model"]["model_id"] == "demo"
    with (trained.lens / "gates-prompts.csv").open() as file:
        assert [line["prompt_id"] for line in csv.DictReader(file)] == [fact.name for fact in oracle.facts()]


def test_median_gains_after_prompts_agree_with_float64(trained: Run, prompts: dict[str, Any]) -> None:
    found = trained.document["kpis"]["median_delta_kl_bits"]
    for baseline in ("norm", "norm_tau", "bias"):
        for depth, row in DEPTHS.items():
            for part, key in enumerate(("to_final", "from_final")):
                wanted = oracle.median(prompts[baseline][part][row] - prompts["tuned"][part][row])
                assert found[baseline]["suite"][depth][key]["estimate"] == pytest.approx(wanted, abs=2e-4)
                assert found[baseline]["suite"][depth][key]["num"] == len(oracle.facts())


def test_median_gains_on_held_out_text_agree_with_float64(trained: Run, text: dict[str, oracle.Text]) -> None:
    found = trained.document["kpis"]["median_delta_kl_bits"]
    for baseline in ("norm", "norm_tau", "bias"):
        for depth, row in DEPTHS.items():
            for key in ("to_final", "from_final"):
                wanted = oracle.median(getattr(text[baseline], key)[row] - getattr(text["tuned"], key)[row])
                measured = found[baseline]["held_out_text"][depth][key]
                assert measured["estimate"] == pytest.approx(wanted, abs=2e-4)
                assert measured["num"] == TEST_SEQS * (oracle.SEQ_LEN - oracle.FIRST)
                assert measured["low"] <= measured["estimate"] <= measured["high"]
        rows = list(DEPTHS.values())
        gain = (text[baseline].to_final[rows] - text["tuned"].to_final[rows]).mean(0)
        measured = trained.document["kpis"]["held_out_gain_bits"][baseline]["estimate"]
        assert measured == pytest.approx(oracle.median(gain), abs=2e-4)


def test_earliness_and_coverage_agree_with_ranks_in_float64(trained: Run, prompts: dict[str, Any]) -> None:
    kpis, (_, _, norm), (_, _, tuned) = trained.document["kpis"], prompts["norm"], prompts["tuned"]
    final = norm[-1].tolist()
    shifts = {
        rank: [a - b for a, b in zip(first_within(norm, rank), first_within(tuned, rank), strict=True)]
        for rank in (10, 5, 1)
    }
    for rank, of_facts in shifts.items():
        counted = [shift for shift, own in zip(of_facts, final, strict=True) if own <= rank]
        assert kpis[f"earliness_shift_first_rank_le_{rank}"]["estimate"] == statistics.median(counted)
        assert kpis[f"earliness_shift_first_rank_le_{rank}"]["num"] == len(counted)
        left_out = trained.document["prompts"]["left_out"][f"final_rank_above_{rank}"]
        assert left_out == [fact.name for fact, own in zip(oracle.facts(), final, strict=True) if own > rank]
    early = [ten >= 1 and five >= 1 for ten, five, own in zip(shifts[10], shifts[5], final, strict=True) if own <= 5]
    (check,) = trained.document["acceptance"]["gates"]["B"]["checks"]
    assert check["measured"]["estimate"] == pytest.approx(statistics.mean(early), abs=1e-12)
    gain = ((tuned == 1).double().mean(0) - (norm == 1).double().mean(0)).tolist()
    assert kpis["rank1_coverage_gain"]["estimate"] == pytest.approx(statistics.mean(gain), abs=1e-6)
    assert kpis["last_layer_kl_after_temp_bits_max"] == pytest.approx(0, abs=1e-5)


def test_the_table_of_prompts_holds_what_float64_finds(trained: Run, prompts: dict[str, Any]) -> None:
    with (trained.lens / "gates-prompts.csv").open() as file:
        lines = list(csv.DictReader(file))
    for lens in LENSES:
        for part, key in enumerate(("kl_to_final_bits", "kl_from_final_bits")):
            for depth, row in DEPTHS.items():
                found = [float(line[f"{key}_{lens}_depth{depth}"]) for line in lines]
                assert found == pytest.approx(prompts[lens][part][row].tolist(), abs=5e-4), (lens, key, depth)
    ranks = {lens: prompts[lens][2] for lens in ("norm", "tuned")}
    assert [int(line["final_rank"]) for line in lines] == ranks["norm"][-1].tolist()
    for number, line in enumerate(lines):
        for lens, of_lens in ranks.items():
            assert int(line[f"rank1_rows_{lens}"]) == int((of_lens[:, number] == 1).sum())
        for rank in (10, 5, 1):
            norm, tuned = (first_within(of_lens[:, [number]], rank)[0] for of_lens in ranks.values())
            wanted = str(norm - tuned) if ranks["norm"][-1, number] <= rank else ""
            assert line[f"earliness_rank_le_{rank}"] == wanted


def test_the_table_of_rows_holds_what_float64_finds(trained: Run, text: dict[str, oracle.Text]) -> None:
    with (trained.lens / "gates-rows.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(int(line["layer"]), float(line["depth_frac"])) for line in lines] == [(row, row / 8) for row in range(9)]
    # One letter of a byte-level vocabulary's token is one byte.
    words = [
        token for ids in oracle.sequences("test", TEST_SEQS) for token in oracle.tokenizer().convert_ids_to_tokens(ids)
    ]
    spelled = [len(word) for word in words if word not in oracle.tokenizer().all_special_tokens]
    assert trained.document["test_bytes_per_token"] == pytest.approx(statistics.mean(spelled), abs=1e-9)
    for lens in ("norm", "tuned"):
        of_lens = text[lens]
        bits_per_byte = of_lens.nats.mean(-1) / torch.log(torch.tensor(2.0).double()) / statistics.mean(spelled)
        wanted = {
            "kl_to_final_bits": of_lens.to_final.mean(-1),
            "kl_from_final_bits": of_lens.from_final.mean(-1),
            "top1_agree": of_lens.agree.mean(-1),
            "next_token_bits_per_byte": bits_per_byte,
        }
        for quantity, values in wanted.items():
            found = [float(line[f"{quantity}_{lens}"]) for line in lines]
            assert found == pytest.approx(values.tolist(), abs=3e-4), (quantity, lens)


def test_temperatures_are_fitted_on_the_validation_text(trained: Run, lenses: dict[str, oracle.Lens]) -> None:
    tau = trained.document["norm_tau"]
    assert tau[-1] == 1
    for row, inv_tau in lenses["norm_tau"].inv_tau.items():
        assert 1 / tau[row] == pytest.approx(inv_tau, rel=1e-4)


def test_perplexity_is_the_models_own_and_with_blocks_taken_out_the_lenss(trained: Run) -> None:
    skips = trained.document["kpis"]["skip_layers"]
    weights = torch.load(trained.lens / "weights.pt", weights_only=True)
    assert skips["num_tokens"] == TEST_SEQS * (oracle.SEQ_LEN - 1)
    assert list(skips["perplexity"]) == ["0", "2", "4"]
    for skipped, found in skips["perplexity"].items():
        assert found == pytest.approx(oracle.perplexity(weights, int(skipped), TEST_SEQS), rel=1e-5)
    assert list(skips["not_applicable"]) == ["8"]


def test_the_terminal_says_what_was_measured_and_the_verdict(trained: Run) -> None:
    acceptance = trained.document["acceptance"]
    failed = [gate for gate, evaluated in acceptance["gates"].items() if not evaluated["passed"]]
    assert trained.status == 3, "32 steps are too few for every gate"
    assert f"gate(s) {', '.join(failed)} not passed" in trained.printed
    assert "perplexity over 504 tokens" in trained.printed
    assert "28 of 92 prompts count against gate B by construction" in trained.printed
    for gate, evaluated in acceptance["gates"].items():
        lines = [line for line in trained.printed.splitlines() if line.startswith(f"{gate} ")]
        assert len(lines) == len(evaluated["checks"])
        for line, check in zip(lines, evaluated["checks"], strict=True):
            assert ("not passed" in line) == (not check["passed"])


# Lenses whose verdict is known beforehand

Make = Callable[..., Path]


@pytest.fixture
def make(trained: Run, tmp_path: Path) -> Make:
    """Another lens in an artifact of its own, with the trained one's provenance and, unless given, bias-only lens."""

    def made(name: str, translators: Translators, bias_only: Translators | None = None) -> Path:
        _, own, provenance, _ = load_lenses(trained.lens)
        assert own is not None
        provenance = dataclasses.replace(provenance, capacity=capacity_of(translators), kpis=None, acceptance=None)
        folder = tmp_path / name
        save_tuned_lens(folder / "lenses" / "demo", translators, provenance, bias_only or own.translators)
        return folder

    return made


def deltas(run: Run, baseline: str) -> list[float]:
    kpis = run.document["kpis"]["median_delta_kl_bits"][baseline]
    return [
        kpis[where][depth][key]["estimate"] for where in kpis for depth in DEPTHS for key in ("to_final", "from_final")
    ]


def passed(run: Run) -> dict[str, bool]:
    return {gate: evaluated["passed"] for gate, evaluated in run.document["acceptance"]["gates"].items()}


def test_an_identity_gains_nothing_at_all_and_fails_gate_a(make: Make, fast: None) -> None:
    run = evaluate(make("identity", Translators(NUM_BLOCKS - 1, 128, 4)))

    assert run.status == 3
    assert deltas(run, "norm") == [0.0] * 12
    assert passed(run) == {"A": False, "B": False, "C": True, "D": True}
    assert run.document["acceptance"]["calibration_only"] is False
    assert run.document["kpis"]["earliness_shift_first_rank_le_10"]["estimate"] == 0
    assert run.document["kpis"]["rank1_coverage_gain"]["estimate"] == 0


def test_a_random_translator_fails_gates_a_and_d(make: Make, fast: None) -> None:
    translators = Translators(NUM_BLOCKS - 1, 128, 4)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        translators.V.normal_(generator=generator)
        translators.c.normal_(generator=generator)
    run = evaluate(make("random", translators))

    assert run.status == 3
    assert max(deltas(run, "norm")) < -1
    assert passed(run) == {"A": False, "B": False, "C": True, "D": False}
    assert run.document["acceptance"]["beats"] == {"norm": False, "norm_tau": False, "bias": False}


def check_calibration_only(run: Run) -> None:
    acceptance = run.document["acceptance"]
    assert acceptance["calibration_only"] is True
    assert (acceptance["beats"]["norm"], acceptance["beats"]["bias"]) == (True, False)
    assert deltas(run, "bias") == [0.0] * 12
    assert "calibration-only" in run.printed
    assert "calibration-only" in (run.lens / "README.md").read_text()


def test_a_lens_of_rank_0_is_its_own_baseline_and_calibration_only(bias_only: Path, fast: None) -> None:
    check_calibration_only(evaluate(bias_only))


def test_a_lens_whose_map_is_zero_is_calibration_only(bias_only: Path, make: Make, fast: None) -> None:
    alone = load_tuned_lens(bias_only / "lenses" / "demo")[0].translators
    translators = Translators(NUM_BLOCKS - 1, 128, 4)
    with torch.no_grad():
        translators.U.zero_()
        translators.c.copy_(alone.c)
        translators.log_tau.copy_(alone.log_tau)
    check_calibration_only(evaluate(make("zero", translators, alone)))


def test_a_lens_far_off_gives_a_verdict_and_no_number_that_json_lacks(make: Make, fast: None) -> None:
    translators = Translators(NUM_BLOCKS - 1, 128, 4)
    with torch.no_grad():
        translators.c.normal_(std=1e4, generator=torch.Generator().manual_seed(0))
    run = evaluate(make("far", translators))

    assert run.status == 3
    assert run.document["kpis"]["skip_layers"]["perplexity"]["0"] < 10
    assert run.document["kpis"]["skip_layers"]["perplexity"]["2"] is None
    assert passed(run)["D"] is False


def test_a_lens_that_passes_ends_with_0_and_is_preferred_from_then_on(
    trained: Run, tmp_path: Path, fast: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thresholds are lowered to what 32 steps reach: the way of a verdict is tested, not the lens."""
    shutil.copytree(trained.folder / "lenses", tmp_path / "lenses")
    monkeypatch.setattr("logos_pl.gates.gates.MIN_DELTA_KL_BITS", {25: 0.0, 50: 0.0, 75: 0.0})
    monkeypatch.setattr("logos_pl.gates.gates.MIN_EARLY_FRAC", 0.2)
    monkeypatch.setattr("logos_pl.sweeps.plots.save_figure", lambda figure, path: path.touch())
    run = evaluate(tmp_path)
    asked = ["--data.prompt=The capital of Italy is called simply", "--data.answer=Rome"]
    assert command("predict", tmp_path, *asked, f"--sweep.out_dir={tmp_path / 'sweep'}") == 0
    document = json.loads((tmp_path / "sweep" / "output-demo.json").read_text())

    assert (run.status, set(passed(run).values())) == (0, {True})
    assert "all gates passed" in run.printed
    assert document["tuned_lens"]["provenance"]["all_gates_passed"] is True
    assert document["run"]["preferred_lens"] == "tuned"
