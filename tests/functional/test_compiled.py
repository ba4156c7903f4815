"""The compiled element-wise parts against the same functions uncompiled, on the CPU; and when they are compiled."""

import inspect
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._pytree import tree_map

from logos_pl.functional import bias_loss, compiled, lens_loss
from logos_pl.functional.compiled import can_compile, compiled_on_cuda
from logos_pl.functional.final_distribution import final_distribution
from logos_pl.functional.unembedding import PreparedHead, Unembedding, prepare, unscaled_logits

VOCAB, D = 333, 6
# Blocks and slices are cut anew with every batch: the last of each may be shorter.
SHAPES = [(4, 5), (3, 5), (4, 2)]


class Drawn:
    """A head and what the element-wise parts take, drawn anew."""

    def __init__(self, softcap: float | None) -> None:
        self.generator = torch.Generator().manual_seed(5)
        self.head: PreparedHead = prepare(
            Unembedding(self.draw(VOCAB, D), self.draw(VOCAB), 0.5, softcap), torch.float32
        )

    def draw(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def logits(self, *shape: int) -> Tensor:
        """As slices of a block are: with gaps between the rows."""
        return unscaled_logits(self.draw(shape[0], shape[1] + 3, D), self.head)[:, : shape[1]]

    def lens_loss(self, pos: int, rows: int, grad: bool) -> tuple[Any, ...]:
        final = final_distribution(self.draw(pos, D), self.head)
        return self.logits(pos, rows), final, self.draw(rows).exp(), self.head, grad

    def bias_loss(self, rows: int, pos: int) -> tuple[Any, ...]:
        p = final_distribution(self.draw(pos, D), self.head).p[:, 0]
        sums = bias_loss._Sums(self.draw(rows), self.draw(rows, VOCAB), self.draw(rows))
        return self.logits(rows, pos), p, self.draw(rows).exp(), self.head, sums


def tensors(value: object) -> list[Tensor]:
    parts = value if isinstance(value, tuple | list) else []
    return [value] if isinstance(value, Tensor) else [tensor for part in parts for tensor in tensors(part)]


def assert_same(function: Callable[..., Any], other: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """What is returned and what is written into the arguments."""
    copies = tree_map(lambda a: a.clone() if isinstance(a, Tensor) else a, arguments)
    found, wanted = tensors((other(*copies), copies)), tensors((function(*arguments), arguments))
    for one, another in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, another, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_a_compiled_part_gives_the_same_numbers_from_few_graphs_without_a_break(softcap: float | None) -> None:
    torch.compiler.reset()
    drawn = Drawn(softcap)
    parts = {
        lens_loss._kl_and_gradient: [drawn.lens_loss(*shape, grad=True) for shape in SHAPES],
        bias_loss._add_slice: [drawn.bias_loss(*shape) for shape in SHAPES],
    }
    for part, calls in parts.items():
        counted = CompileCounterWithBackend("aot_eager")
        other = torch.compile(inspect.unwrap(part), backend=counted, fullgraph=True)
        for arguments in calls:
            assert_same(part, other, arguments)
        assert counted.frame_count <= 3, "one for the first shape, one for any length of either axis"


def test_without_a_gradient_the_compiled_part_leaves_the_logits_alone() -> None:
    torch.compiler.reset()
    part, arguments = lens_loss._kl_and_gradient, Drawn(3.0).lens_loss(4, 5, grad=False)
    before = arguments[0].clone()
    assert_same(part, torch.compile(inspect.unwrap(part), backend="aot_eager", fullgraph=True), arguments)
    assert torch.equal(arguments[0], before)


def test_a_function_is_compiled_where_it_can_be_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Callable[..., Any]] = []

    def compile_once(function: Callable[..., Any]) -> Callable[..., Any]:
        asked.append(function)
        return lambda x, y: "compiled"

    monkeypatch.setattr(torch, "compile", compile_once)
    run = compiled_on_cuda(lambda x, y: "uncompiled")

    assert run(torch.zeros(1), 2) == "uncompiled"
    assert not asked
    monkeypatch.setattr(compiled, "can_compile", lambda device: device.type == "cpu")
    assert [run(torch.zeros(1), y=2), run(torch.zeros(1), 3)] == ["compiled", "compiled"]
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("lacking", "wanted"), [(None, True), ("triton", False), ("gcc", False), ("Python.h", False), ("capability", False)]
)
def test_nothing_is_compiled_where_something_is_missing_that_the_compiler_needs(
    lacking: str | None, wanted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lacking != "Python.h":
        (tmp_path / "Python.h").touch()
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(compiled, "find_spec", lambda name: None if name == lacking else name)
    monkeypatch.setattr(shutil, "which", lambda name: None if "gcc" in (name, lacking) and lacking == "gcc" else name)
    monkeypatch.setattr(compiled.sysconfig, "get_path", lambda name: str(tmp_path))
    capability = (6, 1) if lacking == "capability" else (9, 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    can_compile.cache_clear()
    try:
        assert can_compile(torch.device("cuda", 0)) is wanted
        assert not can_compile(torch.device("cpu"))
    finally:
        can_compile.cache_clear()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("softcap", [None, 3.0])
def test_on_cuda_the_compiled_parts_give_the_same_numbers(softcap: float | None) -> None:
    drawn = Drawn(softcap)
    for part, arguments in (
        (lens_loss._kl_and_gradient, drawn.lens_loss(4, 5, grad=True)),
        (bias_loss._add_slice, drawn.bias_loss(4, 5)),
    ):
        moved = tree_map(lambda a: a.cuda() if isinstance(a, Tensor) else a, arguments)
        assert can_compile(moved[0].device)
        assert_same(inspect.unwrap(part), part, moved)
