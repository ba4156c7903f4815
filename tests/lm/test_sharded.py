"""A model whose blocks are shared out among processes gives the bits of the same model in one of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor

from logos_pl.errors import InputError
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import Request, Residuals, read_in_groups
from logos_pl.lm.sharded import Sharing
from logos_pl.lm.sources import ModelSource
from logos_pl.lm.stored_tensors import StoredTensor
from tests.lm.families import BLOCKS, NAMES, VOCAB, tiny_model
from tests.lm.placed import CPU, resident, save, sharded
from tests.processes import in_processes

EVERY = range(BLOCKS + 1)
IDS = [torch.randint(3, VOCAB, (3, 11), generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
PADDED = torch.ones_like(IDS[0]).index_fill(1, torch.arange(4), 0)
REQUESTS = [
    Request(IDS[0], None, EVERY),
    Request(IDS[1], torch.tensor([[0, 4, 10], [3, 3, 5], [9, 1, 0]]), [3, 0, 2, 0], whole_rows=[1]),
    Request(IDS[2], None, EVERY, PADDED),
]
WEIGHTS = "model.safetensors"


@pytest.fixture
def llama(tmp_path: Path) -> ModelSource:
    return save(tiny_model("llama"), tmp_path / "m")


def read(lm: FrozenLM, requests: list[Request]) -> list[Residuals]:
    return [found for _, found in read_in_groups(lm, requests, lambda request: request)]


def equal(a: list[Residuals], b: list[Residuals]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, y) for one, two in zip(a, b, strict=True) for x, y in zip(one[:2], two[:2], strict=True)
    )


def differing(sources: dict[str, ModelSource], dtype: torch.dtype) -> list[str]:
    found = []
    for name, source in sources.items():
        wanted, lm = resident(source, dtype), sharded(source, dtype)
        same = equal(read(lm, REQUESTS), read(wanted, REQUESTS))
        if not (same and torch.equal(lm.logits(IDS[0]), wanted.logits(IDS[0]))):
            found.append(name)
        if (lm.stream_dtype, lm.tied_embeddings) != (wanted.stream_dtype, wanted.tied_embeddings):
            found.append(f"{name}: what is known of it")
    return found


@pytest.mark.parametrize(
    ("names", "dtype"),
    [
        (["llama", "gpt2", "opt_project", "qwen3_moe"], torch.float32),
        (["gemma2", "mamba"], torch.bfloat16),
        pytest.param(NAMES, torch.float32, marks=pytest.mark.slow),
        pytest.param(NAMES, torch.bfloat16, marks=pytest.mark.slow),
    ],
    ids=["some, fp32", "some, bf16", "all, fp32", "all, bf16"],
)
def test_families_give_the_bits_of_the_resident_model(names: list[str], dtype: torch.dtype, tmp_path: Path) -> None:
    sources = {name: save(tiny_model(name, dtype), tmp_path / name) for name in names}
    assert in_processes(tmp_path / "store", lambda rank: differing(sources, dtype)) == [[], []]


@pytest.mark.parametrize("name", ["llama", "qwen3_moe", "gpt2"])
def test_each_process_keeps_its_part_of_the_matrices(name: str, tmp_path: Path) -> None:
    source = save(tiny_model(name), tmp_path / name)

    def kept_bytes(rank: int) -> tuple[int, int, int]:
        lm = sharded(source)
        read(lm, REQUESTS)
        parts = [part for block in lm.anatomy.blocks for part in block.parameters()]
        matrices = [part for part in parts if part.ndim > 1]
        assert all(isinstance(part, DTensor) == (part.ndim > 1) for part in parts)
        own = sum(part.to_local().untyped_storage().nbytes() for part in matrices if isinstance(part, DTensor))
        whole = sum(part.numel() * part.itemsize for part in matrices)
        return own, whole, sum(part.requires_grad for part in parts)

    for own, whole, trained in in_processes(tmp_path / "store", kept_bytes):
        assert own == whole / 2
        assert trained == 0


def test_only_the_own_part_of_a_matrix_is_read_from_the_files(
    llama: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_bytes(rank: int) -> dict[str, int]:
        count: dict[str, int] = {}
        inner = StoredTensor._read

        def counted(stored: StoredTensor, room: memoryview, offset: int) -> None:
            key = "matrices" if len(stored.shape) > 1 and stored.shape[0] != VOCAB else "others"
            count[key] = count.get(key, 0) + len(room)
            inner(stored, room, offset)

        monkeypatch.setattr(StoredTensor, "_read", counted)
        sharded(llama)
        return count

    tensors = load_file(llama.folder / WEIGHTS)
    matrices = sum(t.nbytes for key, t in tensors.items() if "layers" in key and t.ndim > 1)
    others = sum(t.nbytes for t in tensors.values()) - matrices
    assert in_processes(tmp_path / "store", read_bytes) == [{"matrices": matrices // 2, "others": others}] * 2


def test_rows_that_do_not_divide_evenly_are_shared_out(llama: ModelSource, tmp_path: Path) -> None:
    def same(rank: int) -> bool:
        return equal(read(sharded(llama), REQUESTS), read(resident(llama), REQUESTS))

    assert in_processes(tmp_path / "store", same, world=5) == [True] * 5


def test_each_of_several_machines_has_the_whole_model(llama: ModelSource, tmp_path: Path) -> None:
    def shape_and_same(rank: int) -> tuple[tuple[int, ...], bool]:
        lm = sharded(llama, nodes=2)
        assert lm.sharing is not None
        return lm.sharing.mesh.shape, equal(read(lm, REQUESTS), read(resident(llama), REQUESTS))

    assert in_processes(tmp_path / "store", shape_and_same, world=4) == [((2, 2), True)] * 4


@pytest.mark.parametrize("counts", [(3, 1), (0, 2), (1, 3)])
def test_a_process_that_has_read_all_goes_on_until_the_others_have(
    counts: tuple[int, int], llama: ModelSource, tmp_path: Path
) -> None:
    def own_part(rank: int) -> bool:
        lm, requests = sharded(llama), REQUESTS[: counts[rank]]
        found = []
        batches = read_in_groups(lm, requests, lambda request: request)
        for _ in requests:  # as Lightning does: not to the end
            found.append(next(batches)[1])
        if not requests:
            assert list(batches) == []
        return equal(found, read(resident(llama), requests))

    assert in_processes(tmp_path / "store", own_part) == [True, True]


def test_what_one_process_cannot_read_ends_all(
    llama: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any) -> None:
        raise InputError("it is gone: bring it back.")

    def load(rank: int) -> None:
        if rank == 1:
            monkeypatch.setattr(StoredTensor, "rows", missing)
        sharded(llama)

    assert in_processes(tmp_path / "store", load) == [(InputError, "it is gone: bring it back.", True)] * 2


def test_a_matrix_of_another_shape_is_named(llama: ModelSource, tmp_path: Path) -> None:
    tensors = load_file(llama.folder / WEIGHTS)
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(47, 32)
    save_file(tensors, llama.folder / WEIGHTS, {"format": "pt"})
    for kind, message, everywhere in in_processes(tmp_path / "store", lambda rank: sharded(llama)):
        assert (kind, everywhere) == (InputError, True)
        assert "up_proj.weight is [47, 32] in the file and [48, 32] by the config" in message


def test_a_missing_matrix_is_named(llama: ModelSource, tmp_path: Path) -> None:
    tensors = load_file(llama.folder / WEIGHTS)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, llama.folder / WEIGHTS, {"format": "pt"})
    for kind, message, _ in in_processes(tmp_path / "store", lambda rank: sharded(llama)):
        assert kind is InputError
        assert "lack 1 tensors of its architecture, model.layers.1.mlp.up_proj.weight first" in message


def test_a_sharded_model_is_neither_compiled_nor_moved(llama: ModelSource, tmp_path: Path) -> None:
    def refused(rank: int) -> list[str]:
        lm, messages = sharded(llama), []
        for action in (lm.compile_blocks, lambda: lm.to("meta")):
            with pytest.raises(InputError) as caught:
                action()
            messages.append(str(caught.value))
        return messages

    compiled, moved = in_processes(tmp_path / "store", refused)[0]
    assert "is sharded, and its blocks cannot be compiled; leave --model.compile out" in compiled
    assert "is sharded on cpu: load it for meta instead" in moved


def test_one_process_alone_is_refused() -> None:
    with pytest.raises(InputError, match=r"over several processes of a machine, but there is only one: give"):
        Sharing(CPU)
