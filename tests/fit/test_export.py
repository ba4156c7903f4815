import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from logos_pl.fit.export import _optim, ending
from logos_pl.fit.stopping import Validated
from logos_pl.settings.lens import OptimSettings
from tests.artifacts.lenses import make_provenance


@pytest.mark.parametrize(("exported", "why"), [(0, True), (40, False)])
def test_a_fit_that_ends_at_its_own_start_says_why_and_what_helps(exported: int, why: bool) -> None:
    provenance = make_provenance()
    optim = dataclasses.replace(provenance.optim, exported_step=exported, lr=0.0067, stopped_early=True)
    said = ending(dataclasses.replace(provenance, optim=optim), Validated(0, 3.65), Validated(8, 3.7025))
    assert said.startswith(f"stopped early after {optim.steps_done} of {optim.total_steps} steps, ")
    assert f"exported step {exported}, the best validation." in said
    assert ("This is the initialisation: no validation improved on it." in said) is why
    assert ("was 3.6500 bits at the start and afterwards 3.7025 bits at best, after step 8." in said) is why
    assert ("--model.lr below 0.0067" in said) is why


def test_a_run_that_ended_before_its_last_step_is_recorded_as_ended_early_whoever_ended_it() -> None:
    module: Any = SimpleNamespace(settings=OptimSettings(lr=0.01, anneal="average"))
    assert _optim(module, total=10, steps_done=4, exported_step=3).stopped_early
    assert not _optim(module, total=10, steps_done=10, exported_step=3).stopped_early
