"""A verdict goes into a lens's folder as a whole or not at all, and only beside the lens it was passed on."""

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from logos_pl.artifacts import load_tuned_lens
from logos_pl.artifacts.filenames import GATE_FILES
from logos_pl.artifacts.gates import record_gates
from logos_pl.artifacts.provenance import Provenance
from logos_pl.artifacts.tuned_lens import save_tuned_lens
from logos_pl.errors import InputError, RunError
from tests.artifacts.lenses import contents, make_lm, make_provenance, make_translators
from tests.artifacts.verdicts import gate_files, make_acceptance, make_kpis


@pytest.fixture
def lens(tmp_path: Path) -> tuple[Path, Provenance]:
    """A lens with its bias-only lens, and its provenance as written."""
    lm, translators = make_lm(), make_translators()
    folder = tmp_path / "tiny"
    saved = save_tuned_lens(folder, translators, make_provenance(lm, translators), make_translators(rank=0))
    return folder, saved.provenance


def record(lens: tuple[Path, Provenance], mark: bytes = b" ", passed: bool = True) -> Provenance:
    return record_gates(*lens, gate_files(mark, passed))


def check_whole(folder: Path) -> None:
    provenance = load_tuned_lens(folder, make_lm())[1]
    there = contents(folder)
    del there["provenance.json"], there["provenance.json.sha256"]
    assert provenance.sha256 == {name: hashlib.sha256(data).hexdigest() for name, data in there.items()}


def test_files_figures_verdict_and_card_lie_beside_an_untouched_lens(lens: tuple[Path, Provenance]) -> None:
    folder, provenance = lens
    before = contents(folder)
    written = record(lens)
    after = contents(folder)

    assert after.keys() == before.keys() | set(GATE_FILES)
    assert all(after[name] == before[name] for name in ("weights.pt", "bias_only.pt"))
    assert {name: after[name] for name in GATE_FILES} == gate_files(b" ")
    assert (written.kpis, written.acceptance) == (make_kpis(), make_acceptance(True))
    assert written == load_tuned_lens(folder)[1]
    assert dataclasses.replace(written, kpis=None, acceptance=None, sha256=provenance.sha256) == provenance
    card = after["README.md"].decode()
    assert "## Gates: passed" in card
    assert "0.457 [0.100, 0.900] bits (n = 7)" in card
    assert "The model has 4 blocks." in card
    assert "Evaluated on 94 facts of `facts.yaml`" in card
    assert "| perplexity without its last 2 blocks | – |" in card
    check_whole(folder)


def test_a_second_verdict_replaces_the_first(lens: tuple[Path, Provenance]) -> None:
    record(lens, b"\n")
    record(lens, b"\n\n", passed=False)

    assert contents(lens[0])["gates.json"] == gate_files(b"\n\n", passed=False)["gates.json"]
    assert "## Gates: not passed" in contents(lens[0])["README.md"].decode()
    assert b"## Gates: passed" not in contents(lens[0])["README.md"]
    check_whole(lens[0])


def test_a_new_lens_has_no_verdict_of_the_old_one(lens: tuple[Path, Provenance]) -> None:
    record(lens)
    evaluated = load_tuned_lens(lens[0])[1]
    kept = save_tuned_lens(lens[0], make_translators(), evaluated, make_translators(rank=0)).earlier
    assert kept is not None, "it was evaluated"
    assert load_tuned_lens(kept)[1] == evaluated

    assert contents(lens[0]).keys() == {
        "weights.pt", "bias_only.pt", "README.md", "provenance.json", "provenance.json.sha256"
    }  # fmt: skip
    assert b"Gates" not in contents(lens[0])["README.md"]


@pytest.mark.parametrize("bias_only", [None, make_translators(rank=0)])
@pytest.mark.parametrize("rank", [3, 4])
def test_a_lens_that_took_the_evaluated_ones_place_gets_no_verdict(
    rank: int, bias_only: Any, lens: tuple[Path, Provenance]
) -> None:
    if rank == 4 and bias_only is not None:
        bias_only.c.data.add_(1)
    translators = make_translators(rank=rank)
    save_tuned_lens(lens[0], translators, make_provenance(make_lm(), translators), bias_only)
    before = contents(lens[0])
    with pytest.raises(RunError, match="was replaced during the test of the earlier one"):
        record(lens)
    assert contents(lens[0]) == before


@pytest.mark.parametrize("name", ["weights.pt", "bias_only.pt", "gates.json", "gates-rows.csv"])
def test_beside_a_file_that_was_altered_nothing_is_recorded(name: str, lens: tuple[Path, Provenance]) -> None:
    record(lens)
    (lens[0] / name).write_bytes((lens[0] / name).read_bytes() + b" ")
    before = contents(lens[0])
    with pytest.raises(InputError, match=f"{name} was altered"):
        record(lens, b"\n")
    assert contents(lens[0]) == before


def test_a_disk_that_refuses_leaves_all_as_it_was(
    lens: tuple[Path, Provenance], monkeypatch: pytest.MonkeyPatch
) -> None:
    record(lens)
    before, rename = contents(lens[0]), os.rename

    def refuse_new(source: Path, target: Path) -> None:
        if Path(source).name.endswith(".new"):
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr("logos_pl.artifacts.store.os.rename", refuse_new)
    with pytest.raises(RunError, match="No space left"):
        record(lens, b"\n")
    assert contents(lens[0]) == before
    check_whole(lens[0])


@pytest.mark.filterwarnings("ignore:Writing .* was interrupted")
def test_a_crash_between_the_two_renames_loses_nothing_and_the_next_verdict_mends_it(
    lens: tuple[Path, Provenance], monkeypatch: pytest.MonkeyPatch
) -> None:
    record(lens, b"\n")
    before, rename = contents(lens[0]), os.rename

    def die_at_new(source: Path, target: Path) -> None:
        if Path(source).name.endswith(".new"):
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("logos_pl.artifacts.store.os.rename", die_at_new)
        with pytest.raises(KeyboardInterrupt):
            record(lens, b"\n\n")
    assert not lens[0].exists()
    assert load_tuned_lens(lens[0])[1].acceptance == make_acceptance(True)
    assert contents(lens[0].with_name(".tiny.old")) == before

    record(lens, b"\n\n\n")
    assert contents(lens[0])["gates.json"] == gate_files(b"\n\n\n")["gates.json"]
    assert [path.name for path in lens[0].parent.iterdir()] == ["tiny"]
    check_whole(lens[0])
