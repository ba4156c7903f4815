import io
import random
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch

from logos_pl.artifacts.torch_files import MAX_ENTRIES, load_torch_file
from logos_pl.artifacts.weights import decode
from logos_pl.errors import InputError

FOUR = torch.arange(4.0)


class Subclass(torch.Tensor):
    """Of a tensor."""


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def load(data: bytes, outline: bool = False) -> Any:
    return load_torch_file(io.BytesIO(data), "x.pt", "a file of tensors", "fetch it again", outline)


@pytest.mark.parametrize(
    "value",
    [
        {"a": FOUR, "b": torch.tensor(1.5)},
        OrderedDict(a=FOUR),
        torch.nn.Linear(2, 3).state_dict(),  # which carries metadata
        {"half": FOUR.half(), "bfloat16": FOUR.bfloat16(), "long": torch.arange(3), "bool": FOUR > 1},
        {"empty": torch.zeros(0, 5), "transposed": torch.rand(3, 4).T, "part": torch.rand(3, 40)[:, ::2]},
        [(FOUR,), {4: [FOUR]}],
    ],
)
def test_plain_values_and_dense_tensors_come_back(value: Any) -> None:
    torch.testing.assert_close(load(saved(value)), value, rtol=0, atol=0)
    plain = [1, 2.5, "three", None, True, {4: ("four", 2**70)}]
    assert load(saved(plain)) == plain


def test_an_outline_has_shapes_and_no_numbers() -> None:
    found = load(saved({"a": FOUR}), outline=True)["a"]
    assert (found.device.type, found.shape, found.dtype) == ("meta", FOUR.shape, FOUR.dtype)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: FOUR.to_sparse(), "_rebuild_sparse_tensor"),
        (lambda: torch.eye(3).to_sparse_csr(), "_rebuild_sparse_tensor"),
        (lambda: torch.zeros(10**6, 10**6, device="meta"), "_rebuild_meta_tensor_no_storage"),
        (lambda: torch.quantize_per_tensor(FOUR, 0.1, 0, torch.qint8), "_rebuild_qtensor"),
        (lambda: FOUR.to(torch.complex64), "ComplexFloatStorage"),
        (lambda: torch.nested.nested_tensor([FOUR, FOUR[:2]]), "_rebuild_nested_tensor"),
        (lambda: torch.nn.Parameter(FOUR), "_rebuild_parameter"),
        (lambda: FOUR.as_subclass(Subclass), "_rebuild_from_type_v2"),
        (lambda: FOUR.to(torch.float8_e4m3fn), "_rebuild_tensor_v3"),
        (lambda: torch._neg_view(FOUR), "not plain and dense"),
        (lambda: torch.zeros(1).expand(10**6, 10**6), "declares a tensor of shape"),
        (lambda: torch.zeros(100).as_strided((50, 50), (1, 1)), "declares a tensor of shape"),
        (lambda: FOUR.shape, "torch.Size"),
        (lambda: FOUR.device, "torch.device"),
        (lambda: bytearray(5), "holds a"),
        (lambda: {1, 2}, "holds a"),
    ],
)
def test_anything_else_is_refused_before_it_is_made(make: Callable[[], Any], problem: str) -> None:
    for value in ({"a": make()}, [make()]):
        with pytest.raises(InputError, match=rf"^x\.pt is not a file of tensors: it .*{problem}") as refusal:
            load(saved(value))
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("key", [1, (1, 2), None, 2.5])
def test_keys_that_are_no_text_are_no_state_dict(key: Any) -> None:
    with pytest.raises(InputError, match=r"weights\.pt is not a state dict .* it holds Tensor at"):
        decode(saved({"a": FOUR, key: FOUR}))


def test_many_tensors_over_one_storage_are_not_made_into_more_than_the_file_has() -> None:
    shared = torch.zeros(10_000)
    with pytest.raises(InputError, match="bytes of tensors, but has"):
        load(saved({str(i): shared for i in range(100)}))


def rebuilt(
    data: bytes, change: Callable[[str, bytes], bytes] = lambda name, part: part, extra: int = 0, **options: Any
) -> bytes:
    """The parts of a file in another zip file."""
    buffer, parts = io.BytesIO(), zipfile.ZipFile(io.BytesIO(data))
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for entry in parts.infolist():
            archive.writestr(entry.filename, change(entry.filename, parts.read(entry)))
        for i in range(extra):
            archive.writestr(f"more/{i}", b"")
    return buffer.getvalue()


def larger_storage(name: str, part: bytes) -> bytes:
    """The pickle says that a storage has 2²⁰ numbers, and it has 4."""
    return part.replace(b"K\x04tq", b"J\x00\x00\x10\x00tq", 1) if name.endswith("data.pkl") else part


def declares(data: bytes, size: int) -> bytes:
    """The first part has that size, as the directory says."""
    at = data.find(b"PK\x01\x02") + 24
    return data[:at] + struct.pack("<L", size) + data[at + 4 :]


WHOLE = saved({"a": FOUR})
UNFIT = {
    "nothing": (b"", "is not a file of torch.save"),
    "text": (b"not a zip", "is not a file of torch.save"),
    "half": (WHOLE[: len(WHOLE) // 2], "is incomplete"),
    "something behind": (WHOLE + b"xx", "data after its end"),
    "something before": (WHOLE[:4] + b"xx" + WHOLE, "has its directory at another offset"),
    "compressed": (rebuilt(WHOLE, compression=zipfile.ZIP_DEFLATED), "compressed or encrypted"),
    "a bomb": (
        rebuilt(WHOLE, lambda name, part: bytes(10**7) if "/data/" in name else part, compression=zipfile.ZIP_DEFLATED),
        "compressed or encrypted",
    ),
    "too many parts": (rebuilt(WHOLE, extra=MAX_ENTRIES), "parts, but at most"),
    "far too many parts": (rebuilt(WHOLE, extra=8 * MAX_ENTRIES), "has a directory of .* bytes, but at most"),
    "a size that is not its own": (declares(WHOLE, 2**31), "whose declared size is wrong"),
    "a storage larger than its part": (rebuilt(WHOLE, larger_storage), None),
}  # fmt: skip


@pytest.mark.parametrize("what", UNFIT)
def test_an_archive_that_is_not_what_torch_writes_is_refused(what: str) -> None:
    data, problem = UNFIT[what]
    with pytest.raises(InputError, match=r"^x\.pt is not a file of tensors" + (f": it .*{problem}" if problem else "")):
        load(data)


def test_two_parts_of_one_name_are_refused() -> None:
    buffer = io.BytesIO(WHOLE)
    with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(archive.namelist()[0], b"other")
    with pytest.raises(InputError, match="two parts of the same name"):
        load(buffer.getvalue())


def test_altered_numbers_are_seen_by_the_parts_own_checksums() -> None:
    data = bytearray(WHOLE)
    data[WHOLE.index(FOUR.numpy().tobytes()) + 5] ^= 1
    with pytest.raises(InputError, match="was altered in the part 'archive/data/0', whose checksum differs"):
        load(bytes(data))


def test_bytes_changed_anywhere_end_in_the_same_numbers_or_in_a_sentence() -> None:
    draw, whole = random.Random(316), saved({"a": torch.rand(100), "b": torch.rand(3, 4)})
    wanted, refused = load(whole), 0
    for _ in range(1_500):
        data = bytearray(whole)
        for _ in range(draw.choice([1, 1, 2, 8])):
            data[draw.randrange(len(data))] = draw.randrange(256)
        try:
            found = load(bytes(data))
        except InputError as error:
            refused += "\n" not in str(error)
            continue
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)  # a byte that only fills up, or says when
    assert refused > 800
