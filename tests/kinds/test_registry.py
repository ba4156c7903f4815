import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from logos_pl import kinds as package
from logos_pl.artifacts.verdict import Baseline as RecordedBaseline
from logos_pl.kinds.registry import (
    LensKind,
    baselines,
    compared,
    evaluated,
    kind_of,
    kinds,
    plain_origin,
    register,
    swept,
    unregister,
)
from logos_pl.sweeps.schema_file import SCHEMA_FILE
from tests.sweeps.page_records import write_page


def toy(**changes: object) -> LensKind:
    return LensKind(**({"name": "toy", "label": "toy lens", "colour": "tab:red", "first_row": 0} | changes))


def test_lenses_are_shown_in_the_order_of_their_registration_and_a_new_one_last() -> None:
    assert [kind.name for kind in kinds()] == ["norm", "norm_tau", "tuned", "bias", "prism", "jacobian", "imported"]
    assert swept() == ("norm", "tuned", "prism", "jacobian", "imported")
    assert evaluated() == ("tuned", "jacobian", "imported")
    kind = register(toy(evaluated=True))
    try:
        assert kinds()[-1] is kind_of("toy") is kind
        assert (swept()[-1], evaluated()[-1], compared()[-1]) == ("toy", "toy", kind)
        with pytest.raises(ValueError, match="a kind of lens named toy already"):
            register(toy())
    finally:
        unregister("toy")
    assert "toy" not in swept()


def test_a_file_in_the_package_is_all_it_takes_to_register_a_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "boxed.py").write_text(
        "from logos_pl.kinds.registry import LensKind, register\n"
        "register(LensKind(name='boxed', label='boxed lens', colour='tab:red', first_row=0))\n"
    )
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    package.import_kinds()
    try:
        assert kinds()[-1].name == "boxed"
    finally:
        unregister("boxed")
        monkeypatch.delitem(sys.modules, "logos_pl.kinds.boxed")
        monkeypatch.delattr(package, "boxed")


def test_the_baselines_are_those_that_a_verdict_is_recorded_over() -> None:
    assert tuple(baselines()) == RecordedBaseline.__args__  # type: ignore[attr-defined]


def test_a_plain_kind_has_files_and_a_section_named_after_it_and_reads_prompts_alone() -> None:
    kind = toy(find=lambda request: None)
    assert (kind.file_suffix, kind.section.key, kind.section.origin_key) == ("-toy", "toy_lens", "origin")
    assert [command for command in ("fit", "validate", "test", "predict") if kind.is_read_by(command)] == [
        "test",
        "predict",
    ]
    assert kind_of("norm").file_suffix == ""
    assert not any(kind_of("norm").is_read_by(command) for command in ("validate", "test", "predict"))


@pytest.mark.parametrize("name", ["Toy", "my toy", "", "a-b", "1st"])
def test_a_name_that_is_no_column_and_no_style_class_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="lower-case letters"):
        toy(name=name)


class Origin(NamedTuple):
    made_by: str


def test_an_origin_is_recorded_as_a_plain_dictionary() -> None:
    assert plain_origin(None) is None
    assert plain_origin({"made_by": "hand"}) == plain_origin(Origin("hand")) == {"made_by": "hand"}


def test_every_lens_that_is_swept_has_a_colour_in_plots_and_on_the_page_and_a_name_in_the_schema(
    tmp_path: Path,
) -> None:
    page = write_page(tmp_path / "page.html").read_text(encoding="utf-8")
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    run = schema["properties"]["run"]["properties"]
    assert swept() == tuple(run["lenses"]["items"]["enum"])
    assert len({kind_of(name).colour for name in swept()}) == len(swept())
    for lens in swept():
        assert len(re.findall(rf"--{lens}: light-dark\(#[0-9a-f]{{6}}, #[0-9a-f]{{6}}\);", page)) == 1
        assert f".{lens} {{ color: var(--{lens}); }}" in page
    for by_lens in (run["files"]["properties"]["records"], run["files"]["properties"]["next_token"]):
        assert tuple(by_lens["properties"]) == swept()
