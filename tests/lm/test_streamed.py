"""A model read block by block from disk gives the bits of the same model in memory."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from logos_pl.errors import InputError, RunError
from logos_pl.lm.branches import find_branches, watch_branches
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import Request, Residuals, gather, read_in_groups, residuals
from logos_pl.lm.skipping import residuals_without_later_blocks
from logos_pl.lm.sources import ModelSource
from logos_pl.lm.streamed import CalledOtherwiseError
from tests.lm.families import BLOCKS, D_MODEL, LLAMA_LIKE, NAMES, VOCAB, build, every, tiny_model
from tests.lm.placed import resident, save, streamed, streamed_body

EVERY = range(BLOCKS + 1)
IDS = [torch.randint(3, VOCAB, (3, 11), generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
SOME = torch.tensor([[0, 4, 10], [3, 3, 5], [9, 1, 0]])
PADDED = torch.ones_like(IDS[0]).index_fill(1, torch.arange(4), 0)
REQUESTS = [
    Request(IDS[0], None, EVERY),
    Request(IDS[1], SOME, [3, 0, 2, 0], whole_rows=[1]),
    Request(IDS[2], None, EVERY, PADDED),
    Request(IDS[3][:1, :7], torch.tensor([[6]]), [BLOCKS]),
]
GROUP_TOKENS = 70  # the first two and the last two of the requests


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    return save(tiny_model("llama"), tmp_path_factory.mktemp("models") / "tiny-llama")


def read(lm: FrozenLM, requests: list[Request] = REQUESTS) -> list[Residuals]:
    return [found for _, found in read_in_groups(lm, requests, lambda request: request)]


def equal(a: list[Residuals], b: list[Residuals]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, y) for one, two in zip(a, b, strict=True) for x, y in zip(one[:2], two[:2], strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", every(NAMES))
def test_every_family_gives_the_bits_of_the_resident_model(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    source = save(tiny_model(name, dtype), tmp_path / name)
    wanted, lm = resident(source, dtype), streamed(source, dtype, GROUP_TOKENS)
    assert equal(read(lm), read(wanted))
    assert torch.equal(lm.logits(IDS[0]), wanted.logits(IDS[0]))
    assert lm.stream_dtype == wanted.stream_dtype
    assert lm.tied_embeddings == wanted.tied_embeddings
    assert not any(parameter.requires_grad for parameter in lm.model.parameters() if parameter.is_meta)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("run_in", [torch.float32, torch.float16])
def test_weights_are_converted_as_at_an_ordinary_load(stored: torch.dtype, run_in: torch.dtype, tmp_path: Path) -> None:
    source = save(tiny_model("qwen3_moe", stored), tmp_path / "m")
    assert equal(read(streamed(source, run_in)), read(resident(source, run_in)))


def test_shards_are_found_by_their_index(tmp_path: Path) -> None:
    source = save(tiny_model("gemma2"), tmp_path / "m", max_shard_size="20KB")
    assert len(list(source.folder.glob("*.safetensors"))) > 3
    assert equal(read(streamed(source)), read(resident(source)))


@pytest.mark.parametrize("group_tokens", [1, 33, 34, 100, 10**6])
def test_the_size_of_the_group_changes_no_bit(llama: ModelSource, group_tokens: int) -> None:
    assert equal(read(streamed(llama, group_tokens=group_tokens)), read(resident(llama)))


def test_a_blocks_weights_are_fetched_once_for_a_group(llama: ModelSource, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = streamed(llama, group_tokens=10**6)
    taken: list[int] = []
    weights = streamed_body(lm).weights
    read_block = weights._read_block

    def counted(number: int) -> Any:
        taken.append(number)
        return read_block(number)

    monkeypatch.setattr(weights, "_read_block", counted)
    read(lm)
    assert weights._coming is not None
    weights._coming.done.result(timeout=60)
    # Block 0 was under way already; the last is followed by the first of the next group.
    assert taken == [*range(1, BLOCKS), 0]


def test_micro_batches_are_read_ahead_by_the_group_and_not_further(llama: ModelSource) -> None:
    asked: list[int] = []

    def batches() -> Any:
        for number, request in enumerate(REQUESTS[:3]):
            asked.append(number)
            yield request

    groups = read_in_groups(streamed(llama, group_tokens=66), batches(), lambda request: request)
    assert asked == []
    for read_by_now in ([0, 1, 2], [0, 1, 2], [0, 1, 2]):  # the third did not fit, and waits
        next(groups)
        assert asked == read_by_now


def test_a_group_ends_where_the_room_for_residuals_does(llama: ModelSource) -> None:
    room = 4 * 3 * 11 * D_MODEL * 4  # of one request of every row
    asked: list[int] = []

    def batches() -> Any:
        for number in range(3):
            asked.append(number)
            yield REQUESTS[0]

    next(
        read_in_groups(streamed(llama, kept_bytes=2 * room - 1, group_tokens=10**6), batches(), lambda request: request)
    )
    assert asked == [0, 1]
    asked.clear()
    next(read_in_groups(streamed(llama, kept_bytes=2 * room, group_tokens=10**6), batches(), lambda request: request))
    assert asked == [0, 1, 2]


def test_a_resident_model_reads_one_micro_batch_at_a_time(llama: ModelSource) -> None:
    groups = read_in_groups(resident(llama), iter(REQUESTS), lambda request: request)
    first, _ = next(groups)
    assert first is REQUESTS[0]


@pytest.mark.parametrize("name", ["llama", "gpt2", "granite", "qwen3_moe"])
def test_what_attention_and_mlp_add_is_gathered_in_the_same_pass(name: str, tmp_path: Path) -> None:
    source = save(tiny_model(name), tmp_path / name)
    places, found = torch.tensor([0, 12, 32]), []
    for lm in (resident(source), streamed(source, group_tokens=10**6)):
        kept = [torch.empty(BLOCKS, 2, 3, D_MODEL) for _ in range(2)]
        branches = find_branches(lm.model, lm.anatomy)
        gather(
            lm,
            [
                Request(ids, None, [0], beside=watch_branches(branches, room, places))
                for ids, room in zip(IDS[:2], kept, strict=True)
            ],
        )
        found.append(kept)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_early_rows_are_read_without_the_later_blocks(llama: ModelSource) -> None:
    a, b = (residuals_without_later_blocks(lm, IDS[0], [1]) for lm in (streamed(llama), resident(llama)))
    assert torch.equal(a, b)


def test_residuals_can_be_saved_for_a_backward_pass(llama: ModelSource) -> None:
    kept = residuals(streamed(llama), IDS[0], None, [1])
    weight = torch.ones(D_MODEL, requires_grad=True)
    (kept * weight).sum().backward()
    assert weight.grad is not None


def test_the_model_is_as_before_when_a_block_fails(llama: ModelSource) -> None:
    lm = streamed(llama)
    before = [block.forward for block in lm.anatomy.blocks]

    def fail(*_: Any) -> None:
        raise RuntimeError("broken block")

    handle = lm.anatomy.blocks[1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="broken block"):
        read(lm)
    handle.remove()
    assert [block.forward for block in lm.anatomy.blocks] == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in lm.model.modules())
    assert equal(read(lm), read(resident(llama)))


def test_a_disk_that_vanishes_between_two_blocks_is_one_sentence(tmp_path: Path) -> None:
    lm = streamed(save(tiny_model("llama"), tmp_path / "m"))
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(RunError, match=r"model.safetensors of m can no longer be read \(No such file or directory\)"):
        read(lm)


def test_a_file_that_is_cut_off_in_use_is_one_sentence(tmp_path: Path) -> None:
    lm = streamed(save(tiny_model("llama"), tmp_path / "m"))
    with (tmp_path / "m" / "model.safetensors").open("r+b") as file:
        file.truncate(4000)
    with pytest.raises(RunError, match=r"model.safetensors of m was truncated while it was in use"):
        read(lm)


def test_a_streamed_model_is_neither_compiled_nor_moved(llama: ModelSource) -> None:
    lm = streamed(llama)
    with pytest.raises(InputError, match=r"is streamed, and its blocks cannot be compiled; leave --model.compile out"):
        lm.compile_blocks()
    with pytest.raises(InputError, match="is streamed on cpu: load it for meta instead"):
        lm.to("meta")


def test_a_family_whose_blocks_share_keys_and_values_streams_where_they_come_as_arguments(tmp_path: Path) -> None:
    settings = {
        **LLAMA_LIKE,
        "num_hidden_layers": 6,
        "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 3,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": VOCAB,
        "sliding_window": 16,
        "global_head_dim": 8,
    }
    model = build(lambda: AutoModelForCausalLM.from_config(AutoConfig.for_model("gemma4_text", **settings)))
    source = save(model, tmp_path / "m")
    requests = [Request(ids, None, range(7)) for ids in IDS]
    assert equal(read(streamed(source), requests), read(resident(source), requests))


class SecondBlockAlone(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self) -> None:
        self.block(torch.zeros(1, 1, D_MODEL))


def test_a_block_that_is_called_out_of_its_turn_is_named(llama: ModelSource) -> None:
    lm = streamed(llama)
    body = SecondBlockAlone(lm.anatomy.blocks[1])
    with pytest.raises(CalledOtherwiseError, match="block 2 is called out of order"):
        streamed_body(lm).run(body, [{}], [REQUESTS[0].beside], [BLOCKS])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "mamba"])
def test_on_cuda_the_bits_are_those_of_the_resident_model(name: str, tmp_path: Path) -> None:
    source, dtype = save(tiny_model(name, torch.bfloat16), tmp_path / name), torch.bfloat16
    wanted = resident(source, dtype).to("cuda")
    lm = streamed(source, dtype, GROUP_TOKENS, device=torch.device("cuda"))
    assert equal(read(lm), read(wanted))
    assert all(tensor.device.type == "cuda" for found in read(lm) for tensor in found[:2])
