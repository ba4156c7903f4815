import dataclasses
from itertools import product

import pytest

from logos_pl.artifacts.verdict import Acceptance, Check, Gate, GateName
from logos_pl.errors import InputError
from tests.artifacts.verdicts import GAIN, make_acceptance


@pytest.mark.parametrize("reason", [None, "3 prompts, where 6 are needed"])
@pytest.mark.parametrize("margin", [None, -0.5, 0.0, 0.5])
def test_a_comparison_passes_just_where_it_is_decidable_and_on_the_right_side(
    margin: float | None, reason: str | None
) -> None:
    holds = {"passed": margin in (0.0, 0.5) and reason is None}
    for passed in (True, False):
        check = Check("A", "median ΔKL", "bits", GAIN, 0.0, margin, passed, reason)
        assert check.makes_sense == (passed == holds["passed"])


@pytest.mark.parametrize("passed", [True, False])
def test_a_verdict_that_follows_from_its_gates_is_taken(passed: bool) -> None:
    make_acceptance(passed).refuse_nonsense("gates.json")


def test_of_all_verdicts_over_four_gates_only_the_conjunction_is_taken() -> None:
    gates, failed = make_acceptance(True).gates, make_acceptance(False).gates
    for outcomes in product([True, False], repeat=4):
        mixed: dict[GateName, Gate] = {
            letter: gates[letter] if held else failed[letter] for letter, held in zip(gates, outcomes, strict=True)
        }
        for verdict in (True, False):
            acceptance = dataclasses.replace(make_acceptance(verdict), gates=mixed)
            assert taken(acceptance) == (verdict == all(outcomes))


@pytest.mark.parametrize("letter", ["A", "B", "C", "D"])
def test_no_gate_may_be_missing_be_empty_or_say_other_than_its_comparisons(letter: GateName) -> None:
    verdict = make_acceptance(False)
    gates = dict(verdict.gates)
    without: dict[GateName, Gate] = {name: gate for name, gate in gates.items() if name != letter}
    other: GateName = "B" if letter == "A" else "A"
    for nonsense in (
        without,
        gates | {letter: Gate(False, [])},
        gates | {letter: Gate(True, gates[letter].checks)},
        gates | {letter: gates[other]},  # its comparisons are another gate's
    ):
        assert not taken(dataclasses.replace(verdict, gates=nonsense))


def taken(acceptance: Acceptance) -> bool:
    try:
        acceptance.refuse_nonsense("gates.json")
    except InputError:
        return False
    return True


def test_a_verdict_that_is_refused_is_named_with_what_to_do() -> None:
    verdict = dataclasses.replace(make_acceptance(True), passed=False)
    with pytest.raises(InputError, match=r"^gates\.json: .* fetch the artifact again, or test the lens again\.$"):
        verdict.refuse_nonsense("gates.json")
