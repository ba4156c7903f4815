import pytest

from logos_pl.errors import InputError, state_of_a_checkpoint


@pytest.mark.parametrize(
    "damage", [KeyError("steps"), TypeError("no int"), ValueError("x"), IndexError(), AttributeError()]
)
def test_a_part_of_a_checkpoint_that_no_fit_wrote_is_named(damage: Exception) -> None:
    with (
        pytest.raises(
            InputError, match=r"^The checkpoint's place in the text is not what a fit writes .*start anew\.$"
        ),
        state_of_a_checkpoint("place in the text"),
    ):
        raise damage


def test_what_is_said_already_stays_as_it_is_and_a_fault_of_ours_is_none_of_the_files() -> None:
    for error in (InputError("said"), RuntimeError("ours")):
        with pytest.raises(type(error), match=str(error)), state_of_a_checkpoint("place in the text"):
            raise error
