"""The verdict that counts is the one in gates.json; its copy in the provenance agrees with it, or neither is read."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from logos_pl.artifacts import load_tuned_lens
from logos_pl.artifacts.gates import record_gates
from logos_pl.artifacts.gates_file import verdict_of
from logos_pl.artifacts.tuned_lens import save_tuned_lens
from logos_pl.errors import InputError
from tests.artifacts.lenses import contents, make_lm, make_provenance, make_translators, reseal
from tests.artifacts.verdicts import gate_files, gates_document, make_acceptance, make_kpis


@pytest.fixture
def evaluated(tmp_path: Path) -> Path:
    """A lens that has not passed its gates."""
    translators = make_translators()
    saved = save_tuned_lens(tmp_path / "tiny", translators, make_provenance(make_lm(), translators))
    record_gates(tmp_path / "tiny", saved.provenance, gate_files(passed=False))
    return tmp_path / "tiny"


def test_a_verdict_is_read_back_as_it_was_recorded(evaluated: Path) -> None:
    provenance = load_tuned_lens(evaluated)[1]
    assert (provenance.acceptance, provenance.kpis) == (make_acceptance(passed=False), make_kpis())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"acceptance": asdict(make_acceptance(passed=True))}, "disagree on the verdict of the gates"),
        ({"acceptance": None}, "disagree on the verdict of the gates"),
        ({"kpis": None}, "disagree on the verdict of the gates"),
        (
            {"kpis": asdict(dataclasses.replace(make_kpis(), last_layer_kl_after_temp_bits_max=0.25))},
            "disagree on the verdict of the gates",
        ),
        ({"acceptance": {"passed": True}}, "acceptance lacks the field calibration_only"),
        ({"acceptance": asdict(make_acceptance(passed=False)) | {"passed": True}}, "verdict contradicts its gates"),
    ],
)
def test_another_verdict_in_the_provenance_is_refused_though_all_hashes_fit(
    evaluated: Path, changes: dict[str, Any], sentence: str
) -> None:
    reseal(evaluated, **changes)
    with pytest.raises(InputError, match=sentence):
        load_tuned_lens(evaluated)


def test_a_verdict_without_its_file_is_refused(evaluated: Path) -> None:
    recorded = json.loads((evaluated / "provenance.json").read_text())["sha256"]
    del recorded["gates.json"]
    (evaluated / "gates.json").unlink()
    reseal(evaluated, sha256=recorded)
    with pytest.raises(InputError, match=r"has a verdict of the gates, but there is no gates\.json"):
        load_tuned_lens(evaluated)


def break_gate(document: Any) -> None:
    document["acceptance"]["gates"]["B"]["passed"] = False


def break_check(document: Any) -> None:
    document["acceptance"]["gates"]["B"]["checks"][0]["margin"] = -0.1


def borrow_check(document: Any) -> None:
    document["acceptance"]["gates"]["B"]["checks"][0]["gate"] = "A"


def undecided_check(document: Any) -> None:
    document["acceptance"]["gates"]["B"]["checks"][0]["reason"] = "3 prompts, where 6 are needed"


NONSENSE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no gates": (lambda d: d["acceptance"].pop("gates"), "acceptance lacks the field gates"),
    "no remarks": (lambda d: d["acceptance"].pop("remarks"), "acceptance lacks the field remarks"),
    "a gate less": (lambda d: d["acceptance"]["gates"].pop("D"), "lacks a gate"),
    "another gate": (lambda d: d["acceptance"]["gates"].update(E={}), "key is 'E'"),
    "no comparison": (lambda d: d["acceptance"]["gates"]["C"].update(checks=[]), "lacks a gate, or a comparison"),
    "the verdict": (lambda d: d["acceptance"].update(passed=False), "the verdict contradicts its gates"),
    "a gate's verdict": (break_gate, "the verdict contradicts its gates"),
    "a comparison": (break_check, "gate B contradicts its comparisons"),
    "another gate's comparison": (borrow_check, "gate B contradicts its comparisons"),
    "an undecided comparison": (undecided_check, "gate B contradicts its comparisons"),
    "passed is 1": (lambda d: d["acceptance"].update(passed=1), "passed is 1, but must be of type bool"),
    "a remark that is a number": (lambda d: d["acceptance"].update(remarks=[1]), r"remarks\[0\] is 1"),
    "another baseline": (lambda d: d["kpis"]["held_out_gain_bits"].update(best=None), "key is 'best'"),
    "an interval of text": (lambda d: d["kpis"].update(rank1_coverage_gain="much"), "rank1_coverage_gain is 'much'"),
    "no kpis": (lambda d: d.pop("kpis"), "kpis is None"),
    "another model": (lambda d: d["model"].update(model_id="org/other"), "for another model than org/tiny"),
    "another commit": (lambda d: d["model"].update(model_commit="c1"), "for another model than org/tiny"),
    "no model": (lambda d: d.pop("model"), "for another model than org/tiny"),
    "another schema": (lambda d: d.update(schema_version=2), "not a verdict that this version of logos-pl reads"),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_a_verdict_that_makes_no_sense_is_refused_and_never_recorded(evaluated: Path, what: str) -> None:
    change, sentence = NONSENSE[what]
    document = gates_document(passed=True)
    change(document)
    data, before = json.dumps(document).encode(), contents(evaluated)
    with pytest.raises(InputError, match=sentence) as refusal:
        verdict_of(data, "org/tiny", "c0ffee")
    assert "\n" not in str(refusal.value)
    with pytest.raises(InputError, match=sentence):
        record_gates(evaluated, load_tuned_lens(evaluated)[1], gate_files() | {"gates.json": data})
    assert contents(evaluated) == before


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"schema_version": 1, "schema_version": 1}'])
def test_what_is_no_json_object_is_no_verdict(data: bytes) -> None:
    with pytest.raises(InputError, match=r"^gates\.json "):
        verdict_of(data, "org/tiny", "c0ffee")
