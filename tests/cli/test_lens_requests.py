"""Which lenses a command asks for, and where it looks for them, from its options alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from logos_pl.cli.lens_requests import lens_requests, refuse_unread_sources
from logos_pl.cli.run import KINDS
from logos_pl.errors import InputError
from logos_pl.kinds.imported import register_named, unregister_named
from logos_pl.kinds.registry import LensKind, register, unregister
from logos_pl.kinds.request import FoundLens, LensRequest

FOLDERS = {"export.folder": "lenses", "prism.folder": "prisms", "jacobian.folder": "jacobians"}


def asked(command: str, **options: Any) -> dict[str, LensRequest]:
    """Requests of a command on a model of the Hub; `options` as section__option."""
    given = FOLDERS | {name.replace("__", "."): value for name, value in options.items()}
    return lens_requests(
        command, given, model_id="org/tiny", clean_model_name="tiny", typed=lambda name: f"logos-pl {name} on tiny"
    )


def uses(requests: dict[str, LensRequest]) -> dict[str, str]:
    return {name: request.use for name, request in requests.items()}


@pytest.fixture
def toy() -> Iterator[LensKind]:
    """A kind without an option of its own, which sweeps and tests read."""
    kind = LensKind(
        name="toy", label="toy lens", colour="tab:red", first_row=0, evaluated=True, find=lambda _: FoundLens(print)
    )
    yield register(kind)
    unregister("toy")


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("validate", {"tuned": "require", "prism": "auto", "jacobian": "auto", "imported": "auto"}),
        ("test", {"tuned": "require", "prism": "auto", "jacobian": "auto", "imported": "auto"}),
        ("predict", {"tuned": "auto", "prism": "auto", "jacobian": "auto", "imported": "auto"}),
    ],
)
def test_a_command_requests_the_kinds_it_reads_and_requires_those_it_needs(
    command: str, wanted: dict[str, str]
) -> None:
    assert uses(asked(command)) == wanted


@pytest.mark.parametrize("command", sorted(KINDS.keys() - {"validate", "test", "predict", "compare"}))
def test_other_commands_request_none(command: str) -> None:
    assert asked(command) == {}


def test_a_sweep_requires_or_omits_lenses_as_its_options_say() -> None:
    assert uses(asked("predict", sweep__tuned="require", sweep__prism="off")) == {
        "tuned": "require",
        "jacobian": "auto",
        "imported": "auto",
    }
    assert uses(asked("predict", sweep__prism="require"))["prism"] == "require"
    assert uses(asked("validate", sweep__prism="off"))["prism"] == "auto", "which is said of sweeps alone"


def test_a_fitted_lens_is_looked_for_in_the_folder_of_the_model_with_the_command_that_fits_one() -> None:
    requests = asked("predict")
    found = {name: (request.folder, request.fit_command) for name, request in requests.items()}
    assert found == {
        "tuned": (Path("lenses/tiny"), "logos-pl fit on tiny"),
        "prism": (Path("prisms/tiny"), "logos-pl prism on tiny"),
        "jacobian": (Path("jacobians/tiny"), "logos-pl jacobian on tiny"),
        "imported": (None, ""),
    }
    assert {(request.model_id, request.clean_model_name) for request in requests.values()} == {("org/tiny", "tiny")}
    assert {(request.source, request.revision) for request in requests.values()} == {(None, None)}


def test_a_given_source_is_that_of_its_own_kind_alone() -> None:
    requests = asked("predict", lens__source="org/lenses", lens__revision="v1", lens__imported="theirs")
    found = {name: (request.source, request.revision) for name, request in requests.items()}
    assert found == {
        "tuned": ("org/lenses", "v1"),
        "prism": (None, None),
        "jacobian": (None, None),
        "imported": ("theirs", None),
    }
    assert asked("validate", ckpt_path="last.ckpt")["tuned"].source == "last.ckpt"


def test_imported_lenses_with_names_are_kinds_of_their_own_for_the_time_of_a_command() -> None:
    given = {"j": "a/b/j.pt@v1", "imported": "theirs"}
    named = register_named(given)
    try:
        requests = asked("test", lens__imported=given)
        assert {name: requests[name].source for name in ("imported", "j")} == {"imported": "theirs", "j": "a/b/j.pt@v1"}
        assert asked("validate", lens__imported="j=x")["j"].source == "x"
        assert asked("predict", lens__imported=["j=x", "theirs"])["imported"].source == "theirs"
    finally:
        unregister_named(named)
    assert "j" not in asked("test")


def test_a_kind_without_an_option_has_the_source_that_is_given_by_its_name(toy: LensKind) -> None:
    requests = asked("test", lens__sources={"toy": "a/box"}, lens__source="org/lenses")
    assert (requests["toy"].source, requests["toy"].use) == ("a/box", "auto")
    assert (requests["toy"].revision, requests["toy"].folder, requests["toy"].fit_command) == (None, None, "")
    assert asked("test")["toy"].source is None
    assert "toy" not in asked("validate", lens__sources={"toy": "a/box"})


@pytest.mark.parametrize("command", ["test", "predict"])
def test_a_source_for_a_kind_that_is_read_and_has_no_option_passes(command: str, toy: LensKind) -> None:
    refuse_unread_sources(command, {"toy": "a/box"})
    refuse_unread_sources(command, None)


@pytest.mark.parametrize(
    ("command", "name", "says"),
    [
        ("validate", "toy", r"validate \w+ no lens named toy"),
        ("predict", "tyo", r"predict \w+ no lens named tyo"),
        ("predict", "bias", r"predict \w+ no lens named bias"),
        ("test", "bias", r"test \w+ no lens named bias"),
        ("predict", "tuned", r"--lens\.source instead"),
        ("test", "imported", r"--lens\.imported instead"),
    ],
)
def test_a_source_without_effect_is_refused(command: str, name: str, says: str, toy: LensKind) -> None:
    others = {} if command == "validate" else {"toy": "a/box"}
    with pytest.raises(InputError, match=rf"^--lens\.sources\.{name}\b.* {says}\.$"):
        refuse_unread_sources(command, others | {name: "x"})
