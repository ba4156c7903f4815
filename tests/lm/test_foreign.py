"""What a foreign library may raise on foreign files, and what comes out."""

import pytest
import torch

from logos_pl.errors import InputError, RunError
from logos_pl.lm.foreign import MAX_REASON, blaming, reason


class PanicException(BaseException):
    """As pyo3 raises it."""


@pytest.mark.parametrize(
    "error",
    [
        KeyError("foo"),
        AssertionError(),
        ZeroDivisionError("division by zero"),
        RecursionError("too deep"),
        OverflowError("int too big"),
        IndexError("x"),
        AttributeError("y\nz"),
        RuntimeError("shape"),
        OSError("nothing there"),
        Exception("tokenizers"),
        PanicException("called unwrap"),
    ],
)
def test_any_exception_is_one_sentence_of_bad_input(error: BaseException) -> None:
    with pytest.raises(InputError) as caught, blaming("config.json of m is not valid", "fetch it again", "m"):
        raise error
    assert str(caught.value) == f"config.json of m is not valid ({reason(error)}); fetch it again."
    assert reason(error).startswith(type(error).__name__)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes")]
)
def test_short_memory_is_a_failure_of_the_run(error: Exception) -> None:
    with pytest.raises(RunError, match="not enough memory for m"), blaming("it is wrong", "fix it", "m"):
        raise error


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(1), torch.OutOfMemoryError("cuda"), InputError("a.")]
)
def test_what_is_no_fault_of_the_files_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, blaming("it is wrong", "fix it", "m"):
        raise error
    assert caught.value is error


def test_a_missing_package_is_named_and_a_long_reason_is_cut() -> None:
    says = "m needs a package that is not installed: no zorg"
    with pytest.raises(InputError, match=says), blaming("it is wrong", "fix it", "m"):
        raise ImportError("no zorg")
    assert len(reason(ValueError("x" * 10_000))) == MAX_REASON + 1


def test_the_key_of_the_value_is_named() -> None:
    says = r"not valid \(hidden_act is 'evil'; KeyError: 'evil'\)"
    with pytest.raises(InputError, match=says), blaming("not valid", "fix it", "m", {"hidden_act": "evil"}):
        raise KeyError("evil")
