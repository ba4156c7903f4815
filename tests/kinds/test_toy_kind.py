"""A kind of lens that only this file knows: it appears wherever lenses do, without any other edit."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonschema import Draft202012Validator, ValidationError
from matplotlib.figure import Figure

from logos_pl.api import load_lens, load_model, sweep
from logos_pl.cli.entry import main
from logos_pl.errors import InputError
from logos_pl.kinds.registry import LensKind, LensSection, kinds, register, unregister
from logos_pl.kinds.request import FoundLens, LensRequest, LoadedLens
from logos_pl.lenses.calibration import TemperedLens
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import NormLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.sweeps import plots
from logos_pl.sweeps.cross_report import cross_model_report
from logos_pl.sweeps.schema_file import output_schema
from tests.sweeps.swept import sweep as made_sweep
from tests.tiny import accepted, fit_arguments

TAU = 2.0


def load(lm: FrozenLM, head: Head) -> LoadedLens:
    """The norm lens at a temperature of 2."""
    inv_tau = torch.full((lm.num_blocks + 1,), 1 / TAU)
    inv_tau[-1] = 1.0
    return LoadedLens({"toy": TemperedLens(NormLens(head), inv_tau)}, {"tau": TAU}, sentence="with a toy")


def find(request: LensRequest) -> FoundLens:
    assert (request.clean_model_name, request.use) == ("tiny-llama", "auto")
    return FoundLens(load)


PLAIN = {"name": "toy", "label": "toy lens", "colour": "tab:red", "first_row": 0, "find": find}


@pytest.fixture
def toy(request: pytest.FixtureRequest) -> Iterator[LensKind]:
    """The kind, registered for one test; by a mark, with more than a plain kind gives."""
    more = getattr(request, "param", {})
    kind = register(LensKind(**(PLAIN | more)))
    yield kind
    unregister("toy")
    assert kind not in kinds()


def legend(figure: Figure) -> dict[str, str]:
    """The colours of a figure's legend by label."""
    handles: list[Any] = [handle for of in figure.legends for handle in of.legend_handles]
    return {handle.get_label(): handle.get_color() for handle in handles if hasattr(handle, "get_color")}


@pytest.mark.parametrize(
    "toy", [{"section": LensSection(key="", conclude=lambda summaries: {"verdict": "a toy"})}], indirect=True
)
def test_a_sweep_has_its_tables_curves_sections_and_columns(
    toy: LensKind,
    tiny: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    legends: dict[str, dict[str, str]] = {}
    save = plots.save_figure

    def seen(figure: Figure, path: Path) -> None:
        legends[path.stem.rpartition("-")[2]] = legend(figure)
        save(figure, path)

    monkeypatch.setattr(plots, "save_figure", seen)
    out = tmp_path / "out"
    asked = {"data.prompt": "sun moon river", "data.answer": "stone", "sweep.out_dir": out}
    assert main(accepted("predict", fit_arguments(**tiny, logs=tmp_path, **asked))) == 0
    said = capsys.readouterr().out

    assert "with a toy" in said
    assert "* toy: rank ≤ 10, 5, 1 from rows" in said
    assert "output-tiny-llama-pure-next-token-toy.csv" in said
    lines = {}
    for records in ("records", "pure-next-token"):
        for lens, suffix in (("norm", ""), ("toy", "-toy")):
            with (out / f"output-tiny-llama-{records}{suffix}.csv").open() as file:
                lines[records, lens] = list(csv.DictReader(file))
                assert {line["lens"] for line in lines[records, lens]} == {lens}
        assert len(lines[records, "toy"]) == len(lines[records, "norm"]) > 0
    assert lines["records", "toy"][0]["entropy_bits"] > lines["records", "norm"][0]["entropy_bits"], "it is warmer"

    document = json.loads((out / "output-tiny-llama.json").read_text())
    Draft202012Validator(output_schema()).validate(document)
    assert document["run"]["lenses"] == ["norm", "toy"]
    assert document["run"]["files"]["records"]["toy"] == "output-tiny-llama-records-toy.csv"
    assert document["toy_lens"]["origin"] == {"tau": TAU}
    assert document["toy_lens"]["verdict"] == "a toy"
    assert len(document["toy_lens"]["summaries"]["delta_kl"]) == 3
    assert set(document["diagnostics"][0]["milestones"]) == {"norm", "toy"}
    with pytest.raises(ValidationError):
        Draft202012Validator(output_schema()).validate(document | {"toy_lens": {"origin": None}})

    assert {name for name, labels in legends.items() if labels.get("toy") == "tab:red"} == {
        "kl", "cosine", "entropy", "rank",
    }  # fmt: skip
    page = (out / "output-tiny-llama-page.html").read_text()
    assert '"lenses":["norm","toy"]' in page
    assert ".toy { color: var(--toy); }" in page
    assert page.count("--toy: light-dark(#d62728, #d62728);") == 1
    report = (out / "evaluation-tiny-llama.md").read_text()
    assert "### What does the toy lens gain over the norm lens?\n" in report
    for heading in ("In short", "Where does the answer appear?", "How close is each row to the model's output?"):
        assert "\n| toy" in report.split(f"## {heading}\n")[1].split("\n## ")[0]
    assert "`prism_summary`, `jacobian_lens`, `imported_lens` and `toy_lens`" in report


@pytest.mark.parametrize("toy", [{"validated": True, "evaluated": True}], indirect=True)
def test_a_validation_and_a_test_read_it_where_its_entry_says_so(
    toy: LensKind, tiny: dict[str, Path], fitted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = fit_arguments(**tiny, logs=fitted)
    assert main(accepted("validate", arguments)) == 0
    (heading,) = [line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["row"]]
    assert heading.split() == ["row", "depth", *["norm", "tuned", "toy"] * 3]

    assert main(accepted("test", arguments)) == 3
    said = capsys.readouterr().out
    assert "KL divergence in bits on the same text, toy lens:" in said
    assert "toy lens is to the model than the norm lens, in bits, with 95% intervals" in said
    folder = fitted / "lenses" / "tiny-llama"
    verdict = json.loads((folder / "gates.json").read_text())
    assert verdict["toy"]["origin"] == {"tau": TAU}
    assert set(verdict["toy"]["acceptance"]["gates"]) == set("ABCD")
    with (folder / "gates-prompts.csv").open() as file:
        (first, *_) = csv.DictReader(file)
    assert {"kl_to_final_bits_toy_depth50", "earliness_toy_rank_le_5", "rank1_rows_toy", "left_out_toy"} <= first.keys()
    with (folder / "gates-rows.csv").open() as file:
        assert "next_token_bits_per_byte_toy" in next(csv.reader(file))


def test_a_plain_kind_is_neither_validated_nor_evaluated_and_reads_unspoken_intermediates(
    toy: LensKind, tiny: dict[str, Path], fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(accepted("validate", fit_arguments(**tiny, logs=fitted))) == 0
    assert "toy" not in capsys.readouterr().out
    suite = tmp_path / "mine.yaml"
    suite.write_text("items:\n- {prompt: sun moon, intermediates: [river], target: stone}\n")
    assert main([*accepted("test", fit_arguments(**tiny, logs=fitted)), f"--intermediates.suite={suite}"]) == 3
    verdict = json.loads((fitted / "lenses" / "tiny-llama" / "gates.json").read_text())
    assert "toy" not in verdict
    lenses = verdict["intermediates"]["lenses"]
    assert list(lenses) == ["norm", "tuned", "bias", "toy"]
    assert lenses["toy"]["sets"] == lenses["norm"]["sets"], "a temperature keeps the order of the tokens"


def test_models_side_by_side_have_a_section_on_it(toy: LensKind) -> None:
    report = cross_model_report([made_sweep("a", lenses=("norm", "toy")), made_sweep("b")])
    section = report.split("## What does the toy lens gain over the norm lens?\n")[1].split("\n## ")[0]
    assert "### org/a" in section
    assert "### org/b" not in section


def test_python_loads_it_by_name_and_sweeps_with_it_only_while_it_is_registered(tiny: dict[str, Path]) -> None:
    lm = load_model(str(tiny["model"]), device="cpu")
    with pytest.raises(
        InputError, match="There is no kind of lens named 'toy': choose tuned, prism, jacobian or imported"
    ):
        load_lens("toy", lm)
    register(LensKind(**PLAIN))
    try:
        lens, origin = load_lens("toy", lm)
        read = sweep(lm, ["sun moon"], {"toy": lens})
    finally:
        unregister("toy")
    assert origin == {"tau": TAU}
    assert list(read.prompts[0].next_token) == ["norm", "toy"]
    with pytest.raises(InputError, match="no lens named 'toy': choose among norm, tuned, prism, jacobian, imported"):
        sweep(lm, ["sun moon"], {"toy": lens})
    assert "toy_lens" not in output_schema()["properties"]


def test_names_that_a_lens_already_has_are_refused(toy: LensKind) -> None:
    with pytest.raises(ValueError, match="There is a kind of lens named toy already"):
        register(LensKind(**PLAIN))


def test_a_kind_without_anything_to_look_for_gives_nothing_to_load(tiny: dict[str, Path]) -> None:
    lm = load_model(str(tiny["model"]), device="cpu")
    with pytest.raises(InputError, match="There is no kind of lens named 'norm'"):
        load_lens("norm", lm)
    for kind, label in (("tuned", "tuned lens"), ("prism", "prism"), ("imported", "imported lens")):
        with pytest.raises(InputError, match=f"A {label} is loaded from files: give its source"):
            load_lens(kind, lm)
