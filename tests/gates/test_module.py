"""The module of `logos-pl test`."""

import pytest
import torch

from logos_pl.data.packed_text import TextBatch
from logos_pl.errors import InputError
from logos_pl.gates.module import GateModule, refuse_unread_depths
from logos_pl.lenses.head import Head
from logos_pl.lenses.jacobian import JacobianLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals
from logos_pl.settings.model import ModelSettings
from tests.largest_tensor import LargestTensor
from tests.tiny import make_model


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> FrozenLM:
    return FrozenLM.load(str(make_model(tmp_path_factory.mktemp("model") / "tiny-llama")))


def test_the_residuals_that_temperatures_are_fitted_on_are_held_once(lm: FrozenLM) -> None:
    generator = torch.Generator().manual_seed(0)
    positions = torch.arange(20).repeat(3, 1)
    texts = [TextBatch(torch.randint(0, 23, (3, 20), generator=generator), positions, {}) for _ in range(6)]
    module, rows = GateModule(ModelSettings(model_id=lm.model_id)), range(lm.num_blocks + 1)
    module.build(lm)
    mode = LargestTensor()
    with mode:
        kept = module._validation_residuals(texts)
    wanted = [residuals(lm, text.input_ids, positions, rows).flatten(1, 2) for text in texts]
    assert torch.equal(kept, torch.cat(wanted, dim=1))
    assert (kept.dtype, kept.device.type) == (lm.stream_dtype, "cpu")
    assert sorted(mode.sizes.values())[-1] == kept.nbytes
    assert sorted(mode.sizes.values())[-2] < kept.nbytes / 2


def test_a_lens_without_a_map_where_the_gates_compare_lenses_is_refused(lm: FrozenLM) -> None:
    head = Head(lm.anatomy)
    maps = dict.fromkeys(range(4), torch.eye(lm.d_model))
    refuse_unread_depths("imported", JacobianLens(head, maps))
    del maps[2]
    with pytest.raises(
        InputError, match=r"The imported lens has no map for row\(s\) 2 \(50% depth\), which the gates need"
    ):
        refuse_unread_depths("imported", JacobianLens(head, maps))
