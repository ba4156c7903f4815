import pytest

from logos_pl.cli import entry
from logos_pl.errors import GatesNotPassedError, InputError, LogosError, RunError


def shared(error: LogosError) -> LogosError:
    error.everywhere = True
    return error


@pytest.mark.parametrize(
    ("rank", "error", "status", "said"),
    [
        ("0", shared(InputError("No.")), 2, "logos-pl: No.\n"),
        ("1", shared(InputError("No.")), 0, ""),
        ("1", GatesNotPassedError("Not passed."), 0, ""),
        ("0", GatesNotPassedError("Not passed."), 3, "logos-pl: Not passed.\n"),
        ("1", RunError("The disk is full."), 1, "logos-pl: The disk is full.\n"),
    ],
)
def test_what_all_processes_meet_the_first_says_and_the_others_leave_in_peace(
    rank: str,
    error: LogosError,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A status of another would have Lightning kill the first, which may be writing."""

    def fail(*given: object) -> None:
        raise error

    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setattr(entry, "run_command", fail)
    assert entry.main(["fit"]) == status
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["--models", "org/a@v1", "org/b"], ["--model.model_id=org/a@v1", "--models", "org/a@v1", "org/b"]),
        (["norm", "--models", "a", "--x=1"], ["--model.model_id=a", "norm", "--models", "a", "--x=1"]),
        (["--models"], ["--models"]),
        (["--models", "--config", "c.yaml"], ["--models", "--config", "c.yaml"]),
        (["--config", "c.yaml"], ["--config", "c.yaml"]),
    ],
)
def test_the_first_of_several_models_stands_for_the_model_that_is_not_named(
    given: list[str], wanted: list[str]
) -> None:
    assert entry.with_a_model(given) == wanted
