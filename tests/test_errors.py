import pytest

from logos_pl.errors import InputError, causes, first_sentence, state_of_a_checkpoint


@pytest.mark.parametrize(
    "damage",
    [KeyError("steps"), TypeError("no int"), ValueError("x"), IndexError(), AttributeError(), OverflowError("inf")],
)
def test_a_part_of_a_checkpoint_that_no_fit_wrote_is_named(damage: Exception) -> None:
    with (
        pytest.raises(InputError, match=r"^The checkpoint's place in the text is invalid .*start again\.$"),
        state_of_a_checkpoint("place in the text"),
    ):
        raise damage


def test_what_is_said_already_stays_as_it_is_and_a_fault_of_ours_is_none_of_the_files() -> None:
    for error in (InputError("said"), RuntimeError("ours")):
        with pytest.raises(type(error), match=str(error)), state_of_a_checkpoint("place in the text"):
            raise error


def test_the_causes_of_an_error_are_found_through_both_kinds_of_link_and_never_twice() -> None:
    first, second, third = KeyError("a"), ValueError("b"), OSError("c")
    first.__cause__, second.__context__, third.__cause__ = second, third, first
    assert causes(first) == [first, second, third]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(OSError("odd thing.\nmore"), "odd thing."), (KeyError(), "KeyError."), (ValueError(" ends: "), "ends.")],
)
def test_the_first_line_of_an_error_is_a_sentence(error: Exception, sentence: str) -> None:
    assert first_sentence(error) == sentence
