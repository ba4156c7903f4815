"""A prism on its way to disk, without whole runs: lines, signals, and what is written by whom."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from logos_pl.artifacts.prism import load_prism
from logos_pl.data.consumed_text import ConsumedText
from logos_pl.errors import InputError, InterruptedRunError
from logos_pl.fit import prism as prism_fit
from logos_pl.fit.prism import Candidate, PrismModule
from logos_pl.fit.prism_export import PrismExport, candidate_table
from logos_pl.functional.moments import MomentStream
from logos_pl.io.progress import DISPLAY
from logos_pl.modules.base import QUANTITIES
from logos_pl.modules.graceful_stop import SIGNALS
from logos_pl.settings.model import ModelSettings
from logos_pl.settings.prism import PrismSettings
from tests.artifacts.lenses import make_lm
from tests.printed import printed

SEQUENCES, POSITIONS = 50, 200
CONSUMED = ConsumedText(
    "org/text", "cut", "train", "v1", "d00d", 3, "the first shards, in order", 12, 1_600, SEQUENCES, 0, "e" * 64,
    "text", "auto", ["<s>"],
)  # fmt: skip


class FakeTrainer:
    """A trainer of two processes at the end of a fit on the text above."""

    world_size = 2

    def __init__(self, first: bool = True) -> None:
        self.is_global_zero = first
        self.counted = 0
        settings = SimpleNamespace(held_out_frac=0.02, tokens=1_500, seq_len=32, drawn_range=(0.25, 1.0))
        self.datamodule = SimpleNamespace(settings=settings, ledger=self.ledger)

    def ledger(self) -> ConsumedText:
        self.counted += 1
        return CONSUMED


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> PrismModule:
    """A module that has read positions and chosen among its candidates."""
    lm = make_lm()
    module = PrismModule(ModelSettings(model_id=lm.model_id), PrismSettings(positions=180))
    module.build(lm)
    stream = MomentStream(len(module.pooled_rows), lm.d_model)
    x = torch.randn(len(module.pooled_rows) + 1, POSITIONS, lm.d_model, generator=torch.Generator().manual_seed(0))
    stream.add(x[:-1], x[-1])
    module._stream = stream
    monkeypatch.setattr(prism_fit, "all_sum", lambda trainer, tensor: tensor)
    monkeypatch.setattr(PrismModule, "trainer", SimpleNamespace())
    module.on_validation_epoch_start()
    for number, candidate in enumerate(module.prisms):
        module.divergences[candidate] = {25: 3.0 + number, 50: 2.0 + number, 75: 0.25 + number}
    module.chosen = Candidate("full", (50, 75))
    module.divergences[module.chosen] = {25: 1.5, 50: 0.5, 75: 0.25}
    rows = torch.arange(5.0)
    module.validation = {
        lens: {name: (10 * (lens == "prism") + index + rows) / 100 for index, name in enumerate(QUANTITIES)}
        for lens in ("norm", "prism")
    }
    return module


@pytest.fixture(autouse=True)
def handlers() -> Iterator[dict[int, Any]]:
    """What listened before the test, and does again after it; nothing is shown any more."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)
    for stage in DISPLAY.stages:
        stage.stop()


# Lines and tables


def test_every_candidate_has_a_line_and_the_chosen_one_a_star(module: PrismModule) -> None:
    heading, *lines = printed(candidate_table(module))
    assert heading == ["whitening", "depths", "pooled", "25%", "50%", "75%", "mean"]
    assert lines[0] == ["diagonal", "0%,", "25%,", "50%,", "75%", "3.000", "2.000", "0.250", "1.750"]
    assert len(lines) == 8
    assert [line for line in lines if line[-1] == "*"] == [
        ["full", "50%,", "75%", "1.500", "0.500", "0.250", "0.750", "*"]
    ]


def test_progress_is_printed_every_ten_seconds_and_counts_all_processes(
    module: PrismModule, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(DISPLAY, "clock", lambda: now)
    monkeypatch.setattr(DISPLAY, "threaded", False)
    export, trainer = PrismExport(tmp_path / "tiny"), FakeTrainer()
    export.on_train_start(trainer, module)
    said = []
    for seconds, positions in ((1, 10), (12, 30), (20, 50), (24, 85), (40, 100)):
        now, module.num_positions = 100.0 + seconds, positions
        export.on_train_batch_end(trainer, module, None, None, 0)
        said.append(capsys.readouterr().out)
    export.teardown(trainer, module, "fit")
    assert said == [
        "",
        "prism: 60 of 180 positions · 5 positions/s · 0:24 left\n",
        "",
        "prism: 170 of 180 positions · 7.1 positions/s · 0:01 left\n",
        "prism: 180 of 180 positions · 4.5 positions/s · 0:00 left\n",
    ]


def test_only_the_first_process_prints(
    module: PrismModule, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 10**6, 20))
    monkeypatch.setattr(DISPLAY, "clock", lambda: float(next(now)))
    monkeypatch.setattr(DISPLAY, "threaded", False)
    module.num_positions = 1
    for first, lines in ((True, 2), (False, 0)):
        export, trainer = PrismExport(tmp_path / "tiny"), FakeTrainer(first=first)
        export.on_train_start(trainer, module)
        export.on_train_batch_end(trainer, module, None, None, 0)
        export.on_validation_start(trainer, module)
        export.teardown(trainer, module, "fit")
        assert capsys.readouterr().out.count("\n") == lines


# Signals


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_fit_where_it_stands_and_a_second_one_the_process(
    number: signal.Signals, module: PrismModule, tmp_path: Path
) -> None:
    PrismExport(tmp_path / "tiny").on_train_start(FakeTrainer(), module)
    with pytest.raises(InterruptedRunError, match=f"^Stopped by {number.name} .* nothing was written") as caught:
        os.kill(os.getpid(), number)
    assert caught.value.exit_status == 128 + number
    assert [signal.getsignal(listened) for listened in SIGNALS] == [signal.SIG_DFL] * 2


@pytest.mark.parametrize("end", ["teardown", "failure"])
def test_signal_handlers_are_restored_however_the_fit_ends(
    end: str, module: PrismModule, tmp_path: Path, handlers: dict[int, Any]
) -> None:
    export, trainer = PrismExport(tmp_path / "tiny"), FakeTrainer()
    export.on_train_start(trainer, module)
    assert {number: signal.getsignal(number) for number in SIGNALS} != handlers
    if end == "teardown":
        export.teardown(trainer, module, "fit")
    else:
        export.on_exception(trainer, module, KeyError("x"))
    assert {number: signal.getsignal(number) for number in SIGNALS} == handlers


# The artifact


def test_the_first_process_refuses_a_folder_of_something_else_before_any_text_is_read(
    module: PrismModule, tmp_path: Path
) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "thesis.tex").write_text("years of work")
    PrismExport(tmp_path / "tiny").on_fit_start(FakeTrainer(first=False), module)
    with pytest.raises(InputError, match=r"thesis\.tex"):
        PrismExport(tmp_path / "tiny").on_fit_start(FakeTrainer(), module)


def test_what_is_recorded_is_what_was_counted_tried_and_read(
    module: PrismModule, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    PrismExport(tmp_path / "tiny").on_fit_end(FakeTrainer(), module)
    lens, recorded = load_prism(tmp_path / "tiny", module.frozen)

    assert module.chosen is not None
    for name, part in module.prisms[module.chosen].prism._asdict().items():
        assert torch.equal(getattr(lens.prism, name), part.float()), name
    assert (recorded.model_id, recorded.model_commit) == ("org/tiny", "c0ffee")
    assert (recorded.positions, recorded.positions_asked, recorded.world_size) == (POSITIONS, 180, 2)
    budget = recorded.budget
    assert (budget.tokens, budget.tokens_asked, budget.seq_len) == (1_600, 1_500, 32)
    assert budget.positions_per_seq == POSITIONS // SEQUENCES
    assert tuple(budget.position_range) == (0.25, 1.0)
    assert (recorded.dataset.revision, recorded.dataset.documents) == ("d00d", 12), "the commit, not what was asked for"
    assert (recorded.whiten, recorded.depths, recorded.rows, recorded.rank) == ("full", [50, 75], [2, 3], 16)
    assert [(tried.whiten, tried.rows) for tried in recorded.candidates] == [
        (whiten, rows) for whiten in ("diagonal", "full") for rows in ([0, 1, 2, 3], [1, 2, 3], [2, 3], [3])
    ]
    assert recorded.candidates[0].kl_from_final_bits == {"25": 3.0, "50": 2.0, "75": 0.25}
    assert recorded.candidates[0].mean_kl_from_final_bits == 1.75
    assert {percent: at.row for percent, at in recorded.val_kl_bits.items()} == {"25": 1, "50": 2, "75": 3}
    quantity = QUANTITIES.index("kl_from_final_bits")
    middle = recorded.val_kl_bits["50"]
    assert middle.norm.kl_from_final_bits == pytest.approx((quantity + 2) / 100)
    assert middle.prism.kl_from_final_bits == pytest.approx((quantity + 12) / 100)

    said = capsys.readouterr().out
    assert "200 distinct positions, 1,600 tokens, 12 documents." in said
    assert said.endswith("prism: tiny\n")


def test_an_earlier_prism_is_kept_and_named(
    module: PrismModule, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    export = PrismExport(tmp_path / "tiny")
    export.on_fit_end(FakeTrainer(), module)
    capsys.readouterr()
    module.chosen = Candidate("full", (75,))
    export.on_fit_end(FakeTrainer(), module)
    (kept,) = tmp_path.glob("tiny.replaced-*")
    assert capsys.readouterr().out.endswith(f"the earlier prism is kept in {kept.name}\n")


def test_other_processes_take_part_in_counting_but_write_nothing(
    module: PrismModule, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = FakeTrainer(first=False)
    PrismExport(tmp_path / "tiny").on_fit_end(trainer, module)
    assert trainer.counted == 1
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""
