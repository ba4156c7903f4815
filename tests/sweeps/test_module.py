"""The module of `logos-pl predict`, as Lightning calls it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from logos_pl.errors import InputError
from logos_pl.lenses.norm import NormLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.settings.model import ModelSettings
from logos_pl.sweeps.attribution import LogitParts
from logos_pl.sweeps.module import SweepModule
from logos_pl.sweeps.reader import PromptReader
from tests.lm.families import tiny_model
from tests.sweeps.test_reader import PROMPTS, together

LLAMA, POST_NORM = "llama", "opt_post_norm"


@pytest.fixture(scope="module")
def lm() -> FrozenLM:
    return FrozenLM.from_model(tiny_model(LLAMA))


@pytest.fixture
def make(lm: FrozenLM) -> Callable[..., SweepModule]:
    """A module with its model loaded, and no lens but the norm lens."""

    def made(of: FrozenLM = lm, model: dict[str, Any] | None = None, **options: Any) -> SweepModule:
        module = SweepModule(ModelSettings(model_id="tiny", **(model or {})), **options)
        module.build(of)
        return module

    return made


def test_a_batch_is_read_with_lenses_that_were_added_after_the_model(
    make: Callable[..., SweepModule], lm: FrozenLM
) -> None:
    module = make()
    module.add_lens("tuned", NormLens(module.head))
    module.make_reader()
    reading = module.predict_step(together(), 0)
    alone = PromptReader(lm, {"norm": NormLens(module.head)}).read(together())
    assert list(reading.lenses) == ["norm", "tuned"]
    assert [prompt.prompt.prompt_id for prompt in reading.prompts] == ["p0", "p1", "p2", "p3"]
    for lens in ("norm", "tuned"):
        for field in ("kl_to_final_bits", "entropy_bits", "top_ids"):
            assert torch.equal(getattr(reading.lenses[lens], field), getattr(alone.lenses["norm"], field))


def test_residuals_and_attribution_are_returned_only_on_request(make: Callable[..., SweepModule], lm: FrozenLM) -> None:
    tokens = sum(len(ids) + max(len(answer) - 1, 0) for ids, answer, _ in PROMPTS)
    for kept in (False, True):
        module = make(keep_residuals=kept, attribution=not kept)
        module.make_reader()
        reading = module.predict_step(together(), 0)
        assert (reading.residuals is not None, reading.logit_parts is not None) == (kept, not kept)
        if reading.residuals is not None:
            assert reading.residuals.shape == (lm.num_blocks + 1, tokens, lm.d_model)
        if reading.logit_parts is not None:
            assert [isinstance(parts, LogitParts) for parts in reading.logit_parts] == [True] * 4


def test_the_block_size_of_the_settings_is_used(make: Callable[..., SweepModule]) -> None:
    module = make(model={"loss_block_mib": 3})
    module.make_reader()
    assert module.reader is not None
    assert module.reader.block_bytes == 3 * 2**20


def test_a_model_without_attribution_is_refused_before_the_first_batch(
    make: Callable[..., SweepModule],
) -> None:
    post_norm = FrozenLM.from_model(tiny_model(POST_NORM))
    plain = make(post_norm)
    plain.make_reader()
    assert plain.reader is not None
    module = make(post_norm, attribution=True)
    with pytest.raises(InputError, match=r"^Direct logit attribution does not support OPTForCausalLM"):
        module.make_reader()
    assert module.reader is None
