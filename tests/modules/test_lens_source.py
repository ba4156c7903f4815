from pathlib import Path
from typing import Any

import pytest

from logos_pl.errors import InputError
from logos_pl.kinds.registry import LensKind, register, unregister
from logos_pl.kinds.request import LensRequest
from logos_pl.modules.lens_source import LensSource, lens_requests, refuse_unread_sources

DEFAULTS = {"export.folder": "lenses", "prism.folder": "prisms", "sweep.tuned": "auto", "sweep.prism": "auto"}


def requests(command: str, **options: Any) -> dict[str, LensRequest]:
    given = DEFAULTS | {name.replace("__", "."): value for name, value in options.items()}
    return lens_requests(
        command, given, model_id="org/tiny", clean_model_name="tiny", typed=lambda name: f"logos-pl {name}"
    )


def test_nothing_is_named_by_default() -> None:
    assert (LensSource().source, LensSource().revision, LensSource().imported) == (None, None, None)


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("validate", {"tuned": "require", "prism": "auto"}),
        ("test", {"tuned": "require", "imported": "auto"}),
        ("predict", {"tuned": "auto", "prism": "auto", "imported": "auto"}),
        ("fit", {}),
        ("selftest", {}),
    ],
)
def test_a_command_asks_for_the_lenses_that_it_reads(command: str, wanted: dict[str, str]) -> None:
    assert {name: request.use for name, request in requests(command).items()} == wanted


def test_a_lens_is_looked_for_where_its_command_puts_it_and_the_command_is_named() -> None:
    found = requests("predict")
    assert (found["tuned"].folder, found["tuned"].fit_command) == (Path("lenses/tiny"), "logos-pl fit")
    assert (found["prism"].folder, found["prism"].fit_command) == (Path("prisms/tiny"), "logos-pl prism")
    assert (found["imported"].folder, found["imported"].source) == (None, None)


def test_what_the_user_names_is_asked_for() -> None:
    named = {"lens__source": "org/lenses", "lens__revision": "v1", "lens__imported": "theirs", "sweep__prism": "off"}
    found = requests("predict", **named, sweep__tuned="require")
    assert (found["tuned"].source, found["tuned"].revision, found["tuned"].use) == ("org/lenses", "v1", "require")
    assert found["imported"].source == "theirs"
    assert "prism" not in found
    assert requests("validate", ckpt_path="best.ckpt", sweep__prism="off")["tuned"].source == "best.ckpt"
    assert "prism" in requests("validate", sweep__prism="off"), "that option is a sweep's"


def test_a_kind_without_an_option_of_its_own_is_named_under_sources() -> None:
    register(LensKind(name="toy", label="toy lens", colour="tab:red", first_row=0, find=lambda request: None))
    try:
        assert requests("predict", lens__sources={"toy": "a/box"})["toy"].source == "a/box"
        assert requests("predict")["toy"].source is None
        refuse_unread_sources("predict", {"toy": "a/box"})
        with pytest.raises(InputError, match="validate reads no lens named toy"):
            refuse_unread_sources("validate", {"toy": "a/box"})
    finally:
        unregister("toy")
    refuse_unread_sources("fit", None)
    with pytest.raises(InputError, match="predict reads no lens named toy"):
        refuse_unread_sources("predict", {"toy": "a/box"})
    with pytest.raises(InputError, match=r"--lens\.sources\.tuned: give --lens\.source instead"):
        refuse_unread_sources("predict", {"tuned": "lenses/mine"})
