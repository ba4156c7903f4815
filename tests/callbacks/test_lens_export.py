import dataclasses

import pytest

from logos_pl.callbacks.lens_export import ending
from tests.artifacts.lenses import make_provenance


@pytest.mark.parametrize(("exported", "why"), [(0, True), (40, False)])
def test_a_fit_that_ends_at_its_own_start_says_why_and_what_helps(exported: int, why: bool) -> None:
    provenance = make_provenance()
    optim = dataclasses.replace(provenance.optim, exported_step=exported, lr=0.0067, stopped_early=True)
    said = ending(dataclasses.replace(provenance, optim=optim))
    assert said.startswith(f"stopped early after {optim.steps_done} of {optim.total_steps} steps, ")
    assert f"exported step {exported}, the best validation." in said
    assert ("That is the start: no validation after it was better." in said) is why
    assert ("--model.lr below 0.0067" in said) is why
