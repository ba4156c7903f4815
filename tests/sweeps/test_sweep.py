"""Whole sweeps by the command line, and what a user finds afterwards."""

import csv
import errno
import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import jsonschema
import pandas
import pytest
import torch
from safetensors.torch import load_file

from logos_pl.cli.entry import main
from logos_pl.kinds.registry import kinds
from logos_pl.sweeps.record_csv import next_token_header, position_header
from logos_pl.sweeps.schema_file import output_schema
from tests.lm.families import tiny_model
from tests.tiny import accepted, fit_arguments, make_imported_lens, make_jacobian_lens, make_model

PROMPTS = """\
facts:
  - id: river
    prompt: sun moon river
    answer: stone
    relation: nature
    no_filler: sun river
    control: {prompt: sun moon sea, answer: leaf}
  - prompt: snow wind light dark song road
"""


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "my.yaml"
    path.write_text(PROMPTS)
    return path


def arguments(tiny: dict[str, Path], lenses: Path, logs: Path, **options: Any) -> list[str]:
    return accepted("predict", fit_arguments(**tiny, logs=logs, **({"export.folder": lenses / "lenses"} | options)))


def latest(logs: Path) -> Path:
    return logs / "lightning_logs" / "sweeps" / "run-latest"


def documents(folder: Path) -> dict[str, Any]:
    """All JSON documents of a run, each valid by the shipped schema."""
    read = {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}
    for document in read.values():
        jsonschema.validate(document, output_schema())
    return read


def test_a_sweep_writes_every_file_and_says_where(
    tiny: dict[str, Path], fitted: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tiny, fitted, tmp_path, **{"data.prompts": prompts, "sweep.keep_residuals": True})) == 0
    said = capsys.readouterr().out
    folder = latest(tmp_path)

    document = documents(folder)["output-tiny-llama.json"]
    assert document["status"] == "ok"
    assert [(p["prompt_id"], p["prompt_variant"]) for p in document["prompts"]] == [
        ("river", "orig"), ("river", "no_filler"), ("river-ctl", "orig"), ("p2", "orig"),
    ]  # fmt: skip
    assert document["run"]["lenses"] == ["norm", "tuned"]
    assert {"river", "river-ctl"} >= {entry["prompt_id"] for entry in document["control_summary"]} != set()
    assert document["ablation_summary"][0]["prompt_id"] == "river"
    assert document["tuned_lens"]["provenance"]["rank_k"] == 4

    tokens = [4, 3, 4, 7]  # <s> and the words
    for suffix in ("", "-tuned"):
        with (folder / f"output-tiny-llama-records{suffix}.csv").open() as file:
            header, *rows = csv.reader(file)
        assert tuple(header) == position_header()
        assert len(rows) == 5 * sum(tokens)
        with (folder / f"output-tiny-llama-pure-next-token{suffix}.csv").open() as file:
            header, *rows = csv.reader(file)
        assert tuple(header) == next_token_header()
        assert len(rows) == 5 * len(tokens)

    files = document["run"]["files"]
    named = [*files["records"].values(), *files["next_token"].values(), *files["plots"], files["page"], files["report"]]
    assert len(named) >= 4 + 4 + 2
    residuals = load_file(folder / "output-tiny-llama-residuals-river-orig.safetensors")["residuals"]
    assert residuals.shape == (5, 4, 16)
    there = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert there == {*named, "output-tiny-llama.json", *(p.name for p in folder.glob("*.safetensors"))}
    for name in named:
        assert name in said


def test_a_sweep_that_attributes_logits_adds_a_file_a_picture_and_how_exact_the_sums_are(
    tiny: dict[str, Path], fitted: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"sweep.attribution": True, "sweep.copy_threshold": 0.01, "sweep.copy_margin": 0}
    options |= {"model.fp32_unembed": False}
    assert main(arguments(tiny, fitted, tmp_path, **{"data.prompts": prompts} | options)) == 0
    said, folder = capsys.readouterr().out, latest(tmp_path)

    document = documents(folder)["output-tiny-llama.json"]
    run = document["run"]
    assert (run["copy_threshold"], run["copy_margin"], run["unembed_dtype"]) == (0.01, 0.0, "float32")
    rows = pandas.read_csv(folder / "output-tiny-llama-pure-next-token.csv")
    assert (rows[rows.copy_collapse].p_top1 <= 0.95).any(), "copies by the rule that was given"
    name = document["run"]["files"]["decomposition"]
    assert name == "output-tiny-llama-decomposition.csv"
    assert name in said
    assert "output-tiny-llama-decomposition.png" in document["run"]["files"]["plots"]
    assert re.search(r"add up to the model's own logits within \de-0[5-9] nats in float32\.", said)
    frame = pandas.read_csv(folder / name)
    for entry in document["decomposition"]:
        key = (frame.prompt_id == entry["prompt_id"]) & (frame.prompt_variant == entry["prompt_variant"])
        parts, total = frame[key & (frame.kind != "total")], frame[key & (frame.kind == "total")].iloc[0]
        assert len(parts) == 2 * 4 + 2
        assert parts.contribution_nats.sum() == pytest.approx(total.contribution_nats, abs=1e-9)
        assert abs(entry["error_nats"]) < 1e-4
        assert parts.margin_contribution_nats.isna().all() == (entry["prompt_id"] != "river-ctl")
    assert [entry["prompt_id"] for entry in document["decomposition"]] == ["river", "river", "river-ctl", "p2"]
    without_answer, predicted = document["decomposition"][-1], document["final_prediction"][-1]
    assert without_answer["token_id"] == predicted["top"][0]["id"]


def test_a_model_whose_logits_cannot_be_attributed_is_refused_before_a_file_is_begun(
    tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "post-norm"
    shutil.copytree(tiny["model"], folder)
    tiny_model("opt_post_norm").save_pretrained(folder)
    command = arguments(tiny | {"model": folder}, tmp_path, tmp_path, **{"data.prompt": "sun moon"})
    assert main([*command, "--sweep.attribution=true"]) == 2
    said = capsys.readouterr()
    assert "Direct logit attribution does not support OPTForCausalLM: the output of block 1 " in said.err
    assert not list(latest(tmp_path).glob("*.csv*"))
    assert main(command) == 0


def test_an_imported_lens_is_swept_beside_ours(
    tiny: dict[str, Path], fitted: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = make_imported_lens(tmp_path / "theirs")  # which reads just what the norm lens reads
    assert main(arguments(tiny, fitted, tmp_path, **{"data.prompts": prompts, "lens.imported": theirs})) == 0
    folder = latest(tmp_path)
    document = documents(folder)["output-tiny-llama.json"]

    assert document["run"]["lenses"] == ["norm", "tuned", "imported"]
    assert document["run"]["preferred_lens"] == "norm"
    assert document["imported_lens"]["origin"]["base_model"] == "tiny-llama"
    gains = document["imported_lens"]["summaries"]["delta_kl"]
    assert [each["median_delta_kl_bits"] for each in gains] == [0.0] * 3
    for kind in ("records", "pure-next-token"):
        norm, imported = (folder / f"output-tiny-llama-{kind}{suffix}.csv" for suffix in ("", "-imported"))
        assert imported.read_text() == norm.read_text().replace(",norm,", ",imported,")
    said = capsys.readouterr().out
    assert "imported lens: trained for tiny-llama with the tuned-lens package" in said
    assert "* imported: " in said
    assert max(map(len, said[said.index("river/orig") : said.index("sweep: ")].splitlines())) <= 80
    assert (
        "### What does the imported lens gain over the norm lens?" in (folder / "evaluation-tiny-llama.md").read_text()
    )


def test_several_imported_lenses_are_read_by_names_of_their_own_and_rows_without_a_map_are_left_out(
    tiny: dict[str, Path], fitted: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = make_imported_lens(tmp_path / "theirs")
    whole = make_jacobian_lens(tmp_path / "j" / "lens.pt")
    partial = make_jacobian_lens(tmp_path / "r" / "lens.pt", (0, 2), provenance={"target_layer": 3})
    named = [f"--lens.imported.{name}={path}" for name, path in (("pkg", theirs), ("j", whole), ("r_part", partial))]
    assert main([*arguments(tiny, fitted, tmp_path, **{"data.prompts": prompts}), *named]) == 0
    folder, said = latest(tmp_path), capsys.readouterr().out
    document = json.loads((folder / "output-tiny-llama.json").read_text())

    assert document["run"]["lenses"] == ["norm", "tuned", "pkg", "j", "r_part"]
    assert document["j_lens"]["origin"]["rows"] == [1, 2, 3]
    assert document["r_part_lens"]["origin"]["rows"] == [1, 3]
    gains = {at["row"]: at for at in document["r_part_lens"]["summaries"]["delta_kl"]}
    assert [gains[row]["num_prompts"] for row in (1, 2, 3)] == [4, 0, 4]
    assert gains[2]["median_delta_kl_bits"] is None
    for lens, rows in (("norm", "01234"), ("pkg", "01234"), ("j", "1234"), ("r_part", "134")):
        suffix = "" if lens == "norm" else f"-{lens}"
        for kind in ("records", "pure-next-token"):
            with (folder / f"output-tiny-llama-{kind}{suffix}.csv").open() as file:
                assert {line["layer"] for line in csv.DictReader(file)} == set(rows)
    for milestone in document["diagnostics"][0]["milestones"]["r_part"].values():
        assert not isinstance(milestone, dict) or milestone.get("row") in (None, 1, 3, 4)
    page = (folder / "output-tiny-llama-page.html").read_text()
    assert '"lenses":["norm","tuned","pkg","j","r_part"]' in page
    assert '"rows":[1,3,4]' in page
    report = (folder / "evaluation-tiny-llama.md").read_text()
    of_row_0 = re.search(r"\| r\\?_part +\| river \(orig\) +\| 0% +\| 0 +\|( – +\|){4}", report)
    assert of_row_0, "a row that is not read is not called infinite"
    assert "imported lens r_part: Jacobian lens of a model that its files do not name, 2 of rows 1 to 3" in said
    assert max(map(len, said[said.index("river/orig") : said.index("sweep: ")].splitlines())) <= 80
    assert "r_part" not in {kind.name for kind in kinds()}, "the names are forgotten"

    given = accepted("validate", fit_arguments(**tiny, logs=tmp_path, **{"export.folder": fitted / "lenses"}))
    assert main([*given, *named]) == 0
    tables = capsys.readouterr().out.split("held-out validation text")[1]
    headings = [line.split()[2:5] for line in tables.splitlines() if line.split()[:1] == ["row"]]
    assert headings == [["norm", "tuned", "pkg"], ["norm", "j", "r_part"]]
    second = [line.split() for line in tables.split("r_part\n")[-1].splitlines() if line.split()]
    assert [line[-1] for line in second[:5]].count("–") == 2
    assert max(map(len, tables.splitlines())) <= 80


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--lens.imported.norm=x"], "norm is already the name of a lens"),
        (["--lens.imported.A=x"], "'A' cannot be the name of a lens"),
        (["--lens.imported.far_too_long_a_name=x"], "cannot be the name of a lens: give at most 12 lower-case"),
        (["--lens.imported=[a=x, a=y]"], "gives two lenses the name a"),
        (["--lens.imported.j=nowhere"], "There is no folder nowhere: --lens.imported takes"),
    ],
)
def test_names_and_places_that_cannot_be_used_are_refused_in_one_sentence(
    given: list[str], said: str, tiny: dict[str, Path], fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments(tiny, fitted, tmp_path, **{"data.prompt": "sun"}), *given]) == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert len(complaint.strip().splitlines()) == 1
    assert [kind.name for kind in kinds()][-1] == "imported"


@pytest.mark.parametrize("command", ["fit", "selftest"])
def test_an_imported_lens_is_refused_where_nothing_reads_it(
    command: str, tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = accepted(command, fit_arguments(**tiny, logs=tmp_path))
    assert main([*given, f"--lens.imported={tmp_path}"]) == 2
    said = f"--lens.imported is an option of validate, test, compare and predict, but not of {command}"
    assert said in capsys.readouterr().err


def test_the_tables_name_lenses_rows_answers_and_milestones(
    tiny: dict[str, Path], fitted: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tiny, fitted, tmp_path, **{"data.prompts": prompts})) == 0
    lines = capsys.readouterr().out.splitlines()

    titles = [line for line in lines if line.startswith(("river/", "river-ctl/", "p2/"))]
    assert titles[0] == "river/orig 'sun moon river' → ' stone'" or titles[0] == "river/orig 'sun moon river' → 'stone'"
    assert titles[3].startswith("p2/orig 'snow wind light dark song road'")
    assert sum(line.split()[:1] == ["4"] for line in lines) == 4, "row n of four prompts"
    assert sum(line.startswith("* tuned:") for line in lines) == 4


def test_two_sweeps_give_identical_files_but_for_times(
    tiny: dict[str, Path], fitted: Path, prompts: Path, tmp_path: Path
) -> None:
    for run in ("one", "two"):
        assert main(arguments(tiny, fitted, tmp_path / run, **{"data.prompts": prompts})) == 0
    one, two = latest(tmp_path / "one"), latest(tmp_path / "two")

    names = sorted(path.name for path in one.iterdir() if not path.name.startswith("."))
    assert names == sorted(path.name for path in two.iterdir() if not path.name.startswith("."))
    for name in names:
        if name.endswith(".json"):
            read = [json.loads((folder / name).read_text()) for folder in (one, two)]
            for document in read:
                for key in ("started_utc", "finished_utc", "seconds"):
                    del document["run"][key]
            assert read[0] == read[1]
        else:
            assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_the_result_does_not_hang_on_what_else_is_asked(tiny: dict[str, Path], fitted: Path, tmp_path: Path) -> None:
    few, many = tmp_path / "few.yaml", tmp_path / "many.yaml"
    words = ["sun", "moon", "river", "stone", "bird", "tree", "cloud", "fire", "snow", "wind"]
    texts = [" ".join(words[: 1 + number % 9]) + " star" + " door" * number for number in range(20)]
    lines = [f"  - {{prompt: {text}, answer: sea}}\n" for text in texts]
    few.write_text("facts:\n" + lines[0])
    many.write_text("facts:\n" + "".join(lines))
    frames = []
    for path in (few, many):
        assert main(arguments(tiny, fitted, tmp_path / path.stem, **{"data.prompts": path})) == 0
        frames.append(pandas.read_csv(latest(tmp_path / path.stem) / "output-tiny-llama-pure-next-token-tuned.csv"))
    few_frame, many_frame = frames[0], frames[1][frames[1].prompt_id == "p1"]

    assert len(few_frame) == len(many_frame) == 5
    pandas.testing.assert_frame_equal(few_frame, many_frame, check_exact=False, atol=2e-5, rtol=1e-5)


def test_an_earlier_run_is_renamed_and_kept(tiny: dict[str, Path], fitted: Path, tmp_path: Path) -> None:
    command = arguments(tiny, fitted, tmp_path, **{"data.prompt": "sun moon"})
    for _ in range(3):
        assert main(command) == 0
    runs = sorted(path.name for path in latest(tmp_path).parent.iterdir() if not path.name.startswith("."))

    assert len(runs) == 3
    assert runs[-1] == "run-latest"
    for run in runs:
        assert documents(latest(tmp_path).with_name(run))["output-tiny-llama.json"]["status"] == "ok"


def test_out_dir_is_written_to_and_rotates_nothing(
    tiny: dict[str, Path], fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = arguments(tiny, fitted, tmp_path, **{"data.prompt": "sun moon", "sweep.out_dir": tmp_path / "mine"})
    assert main(command) == 0
    assert (tmp_path / "mine" / "output-tiny-llama.json").is_file()
    assert not (tmp_path / "lightning_logs").exists()
    before = (tmp_path / "mine" / "output-tiny-llama.json").read_bytes()

    capsys.readouterr()
    assert main(command) == 2
    assert "will not be overwritten" in capsys.readouterr().err
    assert (tmp_path / "mine" / "output-tiny-llama.json").read_bytes() == before


def test_without_a_tuned_lens_the_norm_lens_is_read_alone_or_not_at_all(
    tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(arguments(tiny, tmp_path, tmp_path, **{"data.prompt": "sun moon"})) == 0
    assert "There is no tuned lens at" in capsys.readouterr().out
    assert not list(latest(tmp_path).glob("*-tuned.csv"))
    assert documents(latest(tmp_path))["output-tiny-llama.json"]["tuned_lens"] is None

    def must_not_load(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("logos_pl.modules.base.FrozenLM.load", must_not_load)
    assert main(arguments(tiny, tmp_path, tmp_path, **{"data.prompt": "sun moon", "sweep.tuned": "require"})) == 2
    assert "There is no tuned lens at" in capsys.readouterr().err


def test_several_models_are_read_in_turn_and_one_that_fails_is_skipped_with_its_reason(
    tiny: dict[str, Path], fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_model(tmp_path / "other-llama", seed=1)
    command = arguments(tiny, fitted, tmp_path, **{"data.prompt": "sun moon", "data.answer": "sea"})
    assert main([*command, "--models", str(tiny["model"]), str(tmp_path / "nowhere"), str(other)]) == 2
    said = capsys.readouterr()

    read = documents(latest(tmp_path))
    assert {name: document["status"] for name, document in read.items()} == {
        "output-tiny-llama.json": "ok", "output-nowhere.json": "skipped", "output-other-llama.json": "ok",
    }  # fmt: skip
    assert "is not a folder" in read["output-nowhere.json"]["reason"]
    assert str(tmp_path) not in read["output-nowhere.json"]["reason"]
    assert "model 2 of 3" in said.out
    assert "nowhere is skipped" in said.err
    assert "2 of 3 models were read" in said.out
    assert read["output-other-llama.json"]["run"]["lenses"] == ["norm"], "the lens is the first model's"


def test_models_that_would_write_the_same_files_are_refused(
    tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = arguments(tiny, tmp_path, tmp_path, **{"data.prompt": "sun moon"})

    assert main([*command, "--models", "a/model", "b/model"]) == 2
    assert "a/model and b/model would write the same files" in capsys.readouterr().err


def test_a_self_test_takes_one_model(tiny: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", f"--model.model_id={tiny['model']}", "--models", "a", "b"]) == 2
    assert "--models is an option of fit, " in (said := capsys.readouterr().err)
    assert "but not of selftest" in said


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an empty prompt": ({"data.prompt": "  "}, "prompt 'prompt' is empty"),
    "a prompt beyond the context": ({"data.prompt": "sun " * 64}, "65 tokens"),
    "an empty answer": ({"data.prompt": "sun", "data.answer": " "}, "the answer of prompt 'prompt' is empty"),
    "an answer to nothing": ({"data.answer": "sea"}, "--data.answer needs --data.prompt"),
    "no such file": ({"data.prompts": "nowhere.yaml"}, "nowhere.yaml"),
    "another decoding norm": (
        {"model.decoding_norm": "next", "data.prompt": "sun"},
        "trained with decoding_norm final",
    ),
    "two processes": ({"trainer.devices": 2, "data.prompt": "sun"}, "--trainer.devices 1"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_swept_is_one_sentence_and_rotates_nothing(
    wrong: str, tiny: dict[str, Path], fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, wanted = WRONG[wrong]

    assert main(arguments(tiny, fitted, tmp_path, **options)) == 2
    said = capsys.readouterr().err
    assert wanted in said
    assert said.count("\n") == 1
    assert not (tmp_path / "lightning_logs").exists()


def test_another_models_lens_is_refused_by_name(
    tiny: dict[str, Path], fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    namesake = {"model": make_model(tmp_path / "tiny-llama", seed=5), "corpus": tiny["corpus"]}

    assert main(arguments(namesake, fitted, tmp_path, **{"data.prompt": "sun"})) == 2
    assert "The lens was trained for tiny-llama at commit" in capsys.readouterr().err


def test_a_full_disk_is_one_sentence_and_keeps_what_was_read(
    tiny: dict[str, Path],
    fitted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("logos_pl.sweeps.plots.save_figure", full)
    assert main(arguments(tiny, fitted, tmp_path, **{"data.prompt": "sun moon"})) == 1
    said = capsys.readouterr().err
    assert re.search("sweep could not be written to .*lightning_logs/sweeps/run-latest: No space left on device", said)
    document = documents(latest(tmp_path))["output-tiny-llama.json"]
    assert document["status"] == "failed"
    assert "No space left on device" in document["reason"]
    assert (latest(tmp_path) / "output-tiny-llama-pure-next-token.csv").is_file(), "what was whole by then"


def test_a_sweep_that_breaks_off_in_the_middle_leaves_partial_files_and_a_reason(
    tiny: dict[str, Path],
    fitted: Path,
    prompts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from logos_pl.sweeps.record_csv import RecordWriter

    plain, calls = RecordWriter.write, []

    def full_at_the_third(self: Any, records: Any) -> None:
        calls.append(1)
        if len(calls) > 4 * 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(self, records)

    monkeypatch.setattr(RecordWriter, "write", full_at_the_third)
    assert main(arguments(tiny, fitted, tmp_path, **{"data.prompts": prompts})) == 1
    assert "No space left on device" in capsys.readouterr().err
    folder = latest(tmp_path)
    assert documents(folder)["output-tiny-llama.json"]["status"] == "failed"
    assert not list(folder.glob("*.csv")), "no half file under a whole one's name"
    kept = (folder / "output-tiny-llama-pure-next-token.csv.partial").read_text().splitlines()
    assert len(kept) >= 1 + 2 * 5


def test_row_n_of_the_files_is_the_models_own_distribution(tiny: dict[str, Path], fitted: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    assert main(arguments(tiny, fitted, tmp_path, **{"data.prompt": "sun moon", "data.answer": "sea"})) == 0
    frame = pandas.read_csv(latest(tmp_path) / "output-tiny-llama-pure-next-token-tuned.csv")
    last = frame[frame.layer == 4].iloc[0]
    with torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(tiny["model"]).double()
        p = model(torch.tensor([[0, 3, 4]])).logits[0, -1].softmax(-1)

    assert last.top1_id == int(p.argmax())
    assert last.p_top1 == pytest.approx(float(p.max()), abs=1e-6)
    assert last.kl_to_final_bits == pytest.approx(0, abs=1e-6)


def test_a_folder_that_another_sweep_writes_to_is_refused_before_the_model_is_loaded(
    tiny: dict[str, Path],
    fitted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "output-tiny-llama-records.csv.partial").write_text("half")

    def must_not_load(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("logos_pl.modules.base.FrozenLM.load", must_not_load)
    assert main(arguments(tiny, fitted, tmp_path, **{"data.prompt": "sun", "sweep.out_dir": mine})) == 2
    assert "output-tiny-llama-records.csv.partial exists from another sweep" in capsys.readouterr().err
    assert (mine / "output-tiny-llama-records.csv.partial").read_text() == "half"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_sweep_with_its_status_and_keeps_what_was_read(
    number: int,
    status: int,
    tiny: dict[str, Path],
    fitted: Path,
    prompts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from logos_pl.sweeps.files import SweepFiles

    plain, before = SweepFiles.add, signal.getsignal(number)

    def interrupted(self: Any, *given: Any) -> None:
        plain(self, *given)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(SweepFiles, "add", interrupted)
    assert main(arguments(tiny, fitted, tmp_path, **{"data.prompts": prompts})) == status
    said = capsys.readouterr().err
    assert f"Stopped by {signal.Signals(number).name} after 0 of 4 prompts; their readings are in" in said
    assert documents(latest(tmp_path))["output-tiny-llama.json"]["status"] == "failed"
    assert (latest(tmp_path) / "output-tiny-llama-records.csv.partial").is_file()
    assert signal.getsignal(number) == before


def test_a_model_that_fails_for_any_reason_is_skipped_and_the_others_are_read(
    tiny: dict[str, Path],
    fitted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from logos_pl.lm.frozen import FrozenLM

    plain = FrozenLM.load

    def broken(model_id: str, **options: Any) -> FrozenLM:
        if model_id.endswith("broken"):
            raise KeyError("no such layer")
        return plain(model_id, **options)

    monkeypatch.setattr(FrozenLM, "load", broken)
    bad = make_model(tmp_path / "broken")
    command = arguments(tiny, fitted, tmp_path, **{"data.prompt": "sun moon"})
    assert main([*command, "--models", str(bad), str(tiny["model"])]) == 1
    read = documents(latest(tmp_path))
    assert {name: document["status"] for name, document in read.items()} == {
        "output-broken.json": "skipped",
        "output-tiny-llama.json": "ok",
    }
    assert "KeyError: 'no such layer' (unexpected: please report it)" in read["output-broken.json"]["reason"]


def test_models_that_are_all_bad_rotate_nothing(
    tiny: dict[str, Path], fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments(tiny, fitted, tmp_path), "--models", "./nowhere", "./neither"]) == 2
    assert "0 of 2 models were read" in capsys.readouterr().out
    assert not (tmp_path / "lightning_logs").exists()


def test_models_are_set_side_by_side(tiny: dict[str, Path], fitted: Path, tmp_path: Path) -> None:
    other = make_model(tmp_path / "other-llama", seed=1)
    command = arguments(tiny, fitted, tmp_path, **{"data.prompt": "sun moon", "data.answer": "sea"})
    assert main([*command, "--models", str(tiny["model"]), str(other)]) == 0

    report = (latest(tmp_path) / "evaluation-cross-models.md").read_text()
    assert "tiny-llama" in report
    assert "other-llama" in report


def test_a_lens_from_a_checkpoint_has_summaries_and_no_provenance(
    tiny: dict[str, Path], fitted: Path, tmp_path: Path
) -> None:
    (best,) = fitted.rglob("best.ckpt")
    options = {"data.prompt": "sun moon", "data.answer": "sea", "ckpt_path": best}
    assert main(arguments(tiny, tmp_path, tmp_path, **options)) == 0
    tuned = documents(latest(tmp_path))["output-tiny-llama.json"]["tuned_lens"]

    assert tuned["provenance"] is None
    assert tuned["summaries"]


def test_results_are_recognised_by_the_models_name_however_its_folder_is_given(
    tiny: dict[str, Path],
    fitted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tiny["model"])
    options = {"data.prompt": "sun moon", "sweep.out_dir": tmp_path / "mine"}
    command = arguments({"model": Path("."), "corpus": tiny["corpus"]}, fitted, tmp_path, **options)
    assert main(command) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "mine").iterdir()}

    assert main(command) == 2
    assert "evaluation-tiny-llama.md exists from another sweep" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "mine").iterdir()} == before
