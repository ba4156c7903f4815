"""A sequence that grows, read with keys and values kept, against the whole of it read at once."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from logos_pl.errors import InputError
from logos_pl.lm.cached import CachedReader
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals
from tests.lm.families import NAMES, VOCAB, every, tiny_model
from tests.tiny import make_model

WITHOUT_CACHE = {name for name in NAMES if "mamba" in name.lower()}
CACHED = [name for name in NAMES if name not in WITHOUT_CACHE]


def whole(lm: FrozenLM, ids: list[int]) -> Tensor:
    return residuals(lm, torch.tensor([ids]), torch.tensor([[len(ids) - 1]]), range(lm.num_blocks + 1))[:, 0, 0]


def some_ids(count: int) -> list[int]:
    return torch.randint(3, VOCAB, (count,), generator=torch.Generator().manual_seed(1)).tolist()


@pytest.mark.parametrize("name", every(CACHED))
def test_every_row_of_every_family_is_the_one_without_a_cache(name: str) -> None:
    lm = FrozenLM.from_model(tiny_model(name))
    reader, ids = CachedReader(lm), some_ids(12)
    for end in (5, 6, 7, 10, 12):
        torch.testing.assert_close(reader.read(ids[:end]), whole(lm, ids[:end]), atol=1e-4, rtol=1e-4)
        assert reader.ids == tuple(ids[:end])


def test_a_family_that_reads_several_tokens_behind_its_cache_otherwise_reads_on_token_by_token() -> None:
    """As Jamba does, whose rows were wrong from the second turn of a chat on."""
    lm = FrozenLM.from_model(tiny_model("jamba"))
    reader, ids, widths = CachedReader(lm), some_ids(12), []
    handle = lm.model.get_input_embeddings().register_forward_pre_hook(lambda m, args: widths.append(args[0].shape[1]))
    for end in (5, 8, 12):
        reader.read(ids[:end])
    handle.remove()
    assert widths == [5, *[1] * 7]


def test_a_model_that_reads_on_from_its_cache_wrongly_is_refused() -> None:
    lm = FrozenLM.from_model(tiny_model("llama"))
    body, real = lm.anatomy.body, lm.anatomy.body.forward

    def forward(input_ids: Tensor, past_key_values: object, use_cache: bool) -> object:
        return real(input_ids=input_ids if past_key_values is None else input_ids * 0, use_cache=use_cache)

    body.forward = forward
    with pytest.raises(InputError, match="gives other numbers with its key-value cache than without"):
        CachedReader(lm)


@pytest.mark.parametrize("name", sorted(WITHOUT_CACHE))
def test_a_model_that_keeps_no_keys_and_values_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="has no key-value cache"):
        CachedReader(FrozenLM.from_model(tiny_model(name)))


def test_only_what_is_new_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = FrozenLM.from_model(tiny_model(CACHED[0]))
    run: list[int] = []
    forward = lm.anatomy.body.forward

    def counting(input_ids: Tensor, **more: object) -> object:
        run.append(input_ids.shape[1])
        return forward(input_ids=input_ids, **more)

    reader, ids = CachedReader(lm), some_ids(9)
    monkeypatch.setattr(lm.anatomy.body, "forward", counting)
    reader.read(ids[:5])
    reader.read(ids[:6])
    reader.read(ids)
    other = [ids[0] + 1, *ids[1:]]
    torch.testing.assert_close(reader.read(other), whole(lm, other), atol=1e-5, rtol=1e-5)
    reader.read(other)
    assert run[:5] == [5, 1, 3, 9, 9], "another beginning, and nothing new, are read whole"


def test_a_forward_pass_that_is_interrupted_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = FrozenLM.from_model(tiny_model(CACHED[0]))
    reader, ids = CachedReader(lm), some_ids(6)
    reader.read(ids[:4])

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lm.anatomy.blocks[1], "forward", lambda *_, **__: interrupted(None))
        with pytest.raises(KeyboardInterrupt):
            reader.read(ids)
    assert reader.ids == ()
    torch.testing.assert_close(reader.read(ids), whole(lm, ids), atol=1e-5, rtol=1e-5)


def test_a_streamed_model_is_refused(tmp_path: Path) -> None:
    model = FrozenLM.load(str(make_model(tmp_path / "tiny-llama")), placement="streamed")
    with pytest.raises(InputError, match="tiny-llama is streamed, and would be read from disk for every token"):
        CachedReader(model)
