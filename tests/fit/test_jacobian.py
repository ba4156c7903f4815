"""Fitting a Jacobian lens step by step, without whole runs."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from logos_pl.data.lanes import LaneCursor
from logos_pl.data.packed_text import TextBatch
from logos_pl.errors import InputError, RunError
from logos_pl.fit.jacobian import JacobianModule
from logos_pl.functional.mean_jacobian import mean_jacobian
from logos_pl.settings.jacobian import JacobianSettings
from logos_pl.settings.model import ModelSettings
from tests.artifacts.lenses import make_lm

SEQ = 12


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a module whose data module only counts."""
    advanced: list[Any] = []
    monkeypatch.setattr(
        JacobianModule, "trainer", SimpleNamespace(datamodule=SimpleNamespace(advance=advanced.append)), raising=False
    )

    def make(**options: Any) -> JacobianModule:
        given = {"probes": 4, "sequences": 64, "skip_first": 2} | options
        made = JacobianModule(ModelSettings(model_id="org/tiny"), JacobianSettings(**given), seed=3)
        made.build(make_lm())
        made.advanced = advanced  # type: ignore[assignment]
        return made

    return make


def batch(seed: int = 0, size: int = 4, pass_index: int = 0) -> TextBatch:
    ids = torch.randint(0, 50, (size, SEQ), generator=torch.Generator().manual_seed(seed))
    return TextBatch(ids, torch.zeros(size, 1, dtype=torch.long), {0: LaneCursor(pass_index=pass_index)})


def test_a_step_adds_the_dimensions_of_each_sequence_and_moves_on(module: Any) -> None:
    made, passes = module(), []
    made.after_probe = lambda: passes.append(made.probes_done)
    made.training_step(batch(), 0)
    assert passes == [1, 2, 3, 4]
    assert (made.num_sequences, made.probes_done, len(made.advanced)) == (4, 0, 1)
    assert made.sums.counts.tolist() == [1] * 16


def test_a_step_that_was_stopped_within_goes_on_where_it_was(module: Any) -> None:
    class StopError(Exception):
        pass

    whole, stopped = module(probes=7), module(probes=7)
    for number in range(3):
        whole.training_step(batch(number), number)

    def stop() -> None:
        if (stopped.num_sequences, stopped.probes_done) == (4, 5):
            raise StopError

    stopped.after_probe = stop
    stopped.training_step(batch(0), 0)
    with pytest.raises(StopError):
        stopped.training_step(batch(1), 1)
    assert (stopped.num_sequences, stopped.probes_done) == (4, 5)
    stopped.after_probe = lambda: None
    for number in (1, 2):
        stopped.training_step(batch(number), number)
    assert all(torch.equal(one, two) for one, two in zip(whole.sums, stopped.sums, strict=True))


def test_text_that_starts_over_is_refused_before_it_is_read(module: Any) -> None:
    made = module()
    made.training_step(batch(), 0)
    with pytest.raises(InputError, match=r"The text has only 4 distinct sequences, but --jacobian\.sequences is 64"):
        made.training_step(batch(pass_index=1), 1)
    assert int(made.sums.counts.sum()) == 16


def test_gradients_that_are_not_finite_are_named(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = torch.zeros(4, 4, 16)
    broken[2, 1, 3] = torch.inf
    monkeypatch.setattr("logos_pl.fit.jacobian.mean_gradients", lambda *given: iter([broken]))
    with pytest.raises(RunError, match=r"The gradients of org/tiny are not finite at rows \[2\]: run the model in flo"):
        module().training_step(batch(), 0)


def test_the_mean_is_validated_beside_the_norm_lens(module: Any) -> None:
    made = module()
    made.training_step(batch(), 0)
    made.on_validation_epoch_start()
    assert list(made.row_means) == ["norm", "jacobian"]
    wanted = mean_jacobian(made.sums)
    assert all(torch.equal(made.lenses["jacobian"].maps[row], wanted[row]) for row in range(4))


@pytest.mark.parametrize(("options", "message"), [
    ({"probes": 17}, "--jacobian.probes 17 is more than the 16 dimensions of org/tiny"),
    ({"probes": 1, "sequences": 31}, "less than twice, so the error cannot be estimated: give at least 32 sequences"),
    ({"probes": 5, "sequences": 7}, "give at least 8 sequences"),
])  # fmt: skip
def test_what_leaves_no_mean_or_no_error_is_refused(module: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        module(**options)
    module(probes="all", sequences=2)
