import pytest

from logos_pl.artifacts.base_model import refuse_other_name, shown_model
from logos_pl.errors import InputError
from tests.artifacts.lenses import make_lm


@pytest.mark.parametrize(
    ("recorded", "shown"),
    [("org/tiny", "org/tiny"), ("tiny", "tiny"), ("/home/someone/tiny", "tiny"), ("C:\\models\\tiny", "tiny")],
)
def test_no_path_of_another_machine_is_shown(recorded: str, shown: str) -> None:
    assert shown_model(recorded) == shown


def test_names_are_compared_as_far_as_both_are_known_and_commits_if_both_are_commits() -> None:
    lm = make_lm(commit="a" * 40)  # of org/tiny
    for fitted, revision in (("org/tiny", None), ("tiny", "main"), ("org/tiny", "a" * 40)):
        refuse_other_name(fitted, revision, lm)
    for fitted, revision, said in (
        ("other/tiny", None, "for other/tiny, not for org/tiny: load other/tiny or both"),
        ("mini", None, "for mini, not for org/tiny"),
        ("org/tiny", "b" * 40, f"at commit {'b' * 40}, but the model is at {'a' * 40}"),
    ):
        with pytest.raises(InputError, match=said):
            refuse_other_name(fitted, revision, lm, " or both")
