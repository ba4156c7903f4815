"""`logos-pl test` on a tiny model: what it leaves where, and one clear sentence for every mistake."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from logos_pl.artifacts import load_tuned_lens
from logos_pl.artifacts.filenames import GATE_FILES, UNHASHED_FILES, UNSPOKEN_FILES
from logos_pl.artifacts.tuned_lens import save_tuned_lens
from logos_pl.cli.entry import main
from tests.artifacts.lenses import contents
from tests.tiny import WORDS, accepted, fit_arguments, make_imported_lens, make_jacobian_lens, make_model

LENS_FILES = {"README.md", "bias_only.pt", "provenance.json", "provenance.json.sha256", "weights.pt"}
FACTS = [f"  - {{id: {WORDS[i]}, prompt: {' '.join(WORDS[i : i + 3])}, answer: {WORDS[i + 5]}}}" for i in range(8)]
UNSPOKEN = [
    f"  - {{prompt: {' '.join(WORDS[i : i + 2])}, intermediates: [{WORDS[i + 3]}], target: {WORDS[i + 5]}}}"
    for i in range(8)
]


@pytest.fixture
def logs(fitted: Path, tmp_path: Path) -> Path:
    """A copy of the run and its lens."""
    shutil.copytree(fitted, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blank pictures: they take longer than all the rest."""
    for name in ("rows_figure", "gains_figure"):
        monkeypatch.setattr(f"logos_pl.gates.writer.{name}", lambda *given: Figure(figsize=(1, 1)))
    monkeypatch.setattr("logos_pl.gates.unspoken_result.unspoken_figure", lambda *given: Figure(figsize=(1, 1)))


def suite(folder: Path, *lines: str) -> Path:
    path = folder / "suite.yaml"
    path.write_text("\n".join(["facts:", *lines]) + "\n")
    return path


def arguments(tiny: dict[str, Path], logs: Path, **options: Any) -> list[str]:
    if "data.suite" not in options:
        options["data.suite"] = suite(logs.parent, *FACTS)
    if "intermediates.suite" not in options:
        options["intermediates.suite"] = logs.parent / "unspoken.yaml"
        options["intermediates.suite"].write_text("\n".join(["items:", *UNSPOKEN]) + "\n")
    return accepted("test", fit_arguments(**tiny, logs=logs, **options))


def lens(logs: Path) -> Path:
    return logs / "lenses" / "tiny-llama"


def gates(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "gates.json").read_text())
    return read


def test_the_verdict_lies_beside_the_lens_in_its_provenance_and_in_its_card(
    tiny: dict[str, Path], logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(lens(logs))
    assert main(arguments(tiny, logs)) == 3
    said, after = capsys.readouterr(), contents(lens(logs))

    assert after.keys() == LENS_FILES | set(GATE_FILES)
    assert {name: after[name] for name in ("weights.pt", "bias_only.pt")} == {
        name: before[name] for name in ("weights.pt", "bias_only.pt")
    }
    provenance, document = json.loads(after["provenance.json"]), gates(lens(logs))
    assert provenance["sha256"] == {
        name: hashlib.sha256(data).hexdigest() for name, data in after.items() if name not in UNHASHED_FILES
    }
    assert provenance["kpis"] == document["kpis"]
    assert provenance["acceptance"] == document["acceptance"]
    assert {k: v for k, v in provenance.items() if k not in ("kpis", "acceptance", "sha256")} == {
        k: v for k, v in json.loads(before["provenance.json"]).items() if k not in ("kpis", "acceptance", "sha256")
    }
    assert b"## Gates: not passed" in after["README.md"]
    assert all(after[name].startswith(b"\x89PNG\r\n") for name in ("gates-rows.png", "gates-gains.png"))
    assert len(after["gates-prompts.csv"].splitlines()) == 1 + 8
    assert len(after["gates-rows.csv"].splitlines()) == 1 + 5
    load_tuned_lens(lens(logs))
    failed = [gate for gate, evaluated in document["acceptance"]["gates"].items() if not evaluated["passed"]]
    assert said.err == f"logos-pl: gate(s) {', '.join(failed)} not passed: see the table above.\n"
    assert f"verdict: {os.path.relpath(lens(logs))}/gates.json" in said.out


def test_an_imported_lens_is_evaluated_beside_ours_and_changes_nothing_in_its_verdict(
    tiny: dict[str, Path], logs: Path, tmp_path: Path, fast: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tiny, logs)) == 3
    alone, said_alone = gates(lens(logs)), capsys.readouterr().out
    theirs = make_imported_lens(tmp_path / "theirs")  # which reads just what the norm lens reads
    maps = make_jacobian_lens(tmp_path / "j.pt", provenance={"model_id": "org/tiny-llama"})
    named = [f"--lens.imported.imported={theirs}", f"--lens.imported.j={maps}"]
    assert main([*arguments(tiny, logs), *named]) == 3
    beside, said = gates(lens(logs)), capsys.readouterr().out

    imported, jacobian = beside.pop("imported"), beside.pop("j")
    unspoken = beside["intermediates"]["lenses"]
    assert unspoken.pop("imported")["sets"] == unspoken["norm"]["sets"]
    assert unspoken.pop("j")["sets"] != unspoken["norm"]["sets"]
    assert beside == alone
    assert imported["origin"]["base_model"] == "tiny-llama"
    deltas = imported["kpis"]["median_delta_kl_bits"]["norm"]
    assert {delta["to_final"]["estimate"] for where in deltas.values() for delta in where.values()} == {0.0}
    assert imported["acceptance"]["beats"]["norm"] is False
    assert imported["acceptance"]["gates"]["C"]["passed"]
    assert not imported["acceptance"]["passed"]
    verdict = json.loads((lens(logs) / "provenance.json").read_text())["acceptance"]
    assert verdict == alone["acceptance"]
    rows = (lens(logs) / "gates-rows.csv").read_text().splitlines()
    by_row = [dict(zip(rows[0].split(","), row.split(","), strict=True)) for row in rows[1:]]
    assert all(row["kl_to_final_bits_imported"] == row["kl_to_final_bits_norm"] for row in by_row)
    assert "earliness_imported_rank_le_10" in (lens(logs) / "gates-prompts.csv").read_text().splitlines()[0]
    assert said_alone.count("gate what") == 1
    assert said.count("gate what") == 3
    assert jacobian["origin"]["rows"] == [1, 2, 3]
    assert jacobian["acceptance"]["gates"]["C"]["passed"]
    assert [row["kl_to_final_bits_j"] == "" for row in by_row] == [True] + [False] * 4
    assert "imported lens j: gate(s) A, " in said
    assert "\nimported lens: gate(s) A, " in said
    load_tuned_lens(lens(logs))


def test_a_second_test_replaces_the_verdict_and_gives_the_same_one_for_the_same_question(
    tiny: dict[str, Path], logs: Path, fast: None
) -> None:
    runs = []
    for count in (8, 6, 8):
        assert main(arguments(tiny, logs, **{"data.test_seqs": count})) == 3
        runs.append(contents(lens(logs)))
        assert gates(lens(logs))["held_out_text"]["sequences"] == count

    assert runs[0] == runs[2]
    assert runs[1]["gates.json"] != runs[0]["gates.json"]
    assert [path.name for path in lens(logs).parent.iterdir()] == ["tiny-llama"]
    load_tuned_lens(lens(logs))


def test_tensorboard_has_every_figure_and_all_pictures(tiny: dict[str, Path], logs: Path, fast: None) -> None:
    assert main(arguments(tiny, logs)) == 3
    events = EventAccumulator(str(logs / "lightning_logs" / "tiny-llama" / "gates"))
    events.Reload()
    document = gates(lens(logs))
    exported_step = json.loads((lens(logs) / "provenance.json").read_text())["optim"]["exported_step"]

    assert exported_step > 0
    assert {event.step for tag in events.Tags()["scalars"] for event in events.Scalars(tag)} == {exported_step}
    assert [event.step for tag in events.Tags()["images"] for event in events.Images(tag)] == [exported_step] * 3
    assert events.Tags()["images"] == ["test/rows", "test/gains", "test/intermediates"]
    found = {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}
    for gate, evaluated in document["acceptance"]["gates"].items():
        assert found[f"test/gate_{gate}_passed"] == evaluated["passed"]
    for baseline, sets in document["kpis"]["median_delta_kl_bits"].items():
        for where, deltas in sets.items():
            for depth, delta in deltas.items():
                name = f"test/delta_kl_bits_{baseline}_{where}_depth{depth}"
                assert found[name] == pytest.approx(delta["to_final"]["estimate"], rel=1e-6)
    for skipped, value in document["kpis"]["skip_layers"]["perplexity"].items():
        assert found[f"test/perplexity_without_last_{skipped}_blocks"] == pytest.approx(value, rel=1e-6)
    for name, of_lens in document["intermediates"]["lenses"].items():
        area = of_lens["sets"]["all"]["area"]["estimate"]
        assert found[f"test/intermediates_area_{name}"] == pytest.approx(area, rel=1e-6)


def test_a_checkpoint_is_evaluated_where_it_lies_and_the_lens_is_left_alone(
    tiny: dict[str, Path], logs: Path, fast: None
) -> None:
    before = contents(lens(logs))
    assert main([*arguments(tiny, logs), "--ckpt_path=best"]) == 3
    run = logs / "lightning_logs" / "tiny-llama" / "version_0"

    assert contents(lens(logs)) == before
    assert set(GATE_FILES) <= {path.name for path in run.iterdir()}
    of_checkpoint = gates(run)
    assert main(arguments(tiny, logs)) == 3
    assert gates(lens(logs)) == of_checkpoint, "the lens is the best checkpoint's"
    events = EventAccumulator(str(logs / "lightning_logs" / "tiny-llama" / "gates"))
    events.Reload()
    first, second = events.Scalars("test/gate_A_passed")
    assert first.step == second.step > 0


def test_every_lens_reads_unspoken_intermediates_unless_they_are_off(
    tiny: dict[str, Path], logs: Path, fast: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tiny, logs)) == 3
    said, section = capsys.readouterr().out, gates(lens(logs))["intermediates"]
    assert list(section["lenses"]) == ["norm", "tuned", "bias"]
    assert (section["suite"], section["items"]["scored"]) == ("unspoken.yaml", 8)
    assert "Unspoken intermediates: 8 items of unspoken.yaml" in said
    assert main(arguments(tiny, logs, **{"intermediates.suite": "off"})) == 3
    assert "Unspoken intermediates:" not in capsys.readouterr().out
    assert "intermediates" not in gates(lens(logs))
    assert not {path.name for path in lens(logs).iterdir()} & set(UNSPOKEN_FILES)


def test_a_bad_suite_of_intermediates_is_refused_and_the_lens_left_alone(
    tiny: dict[str, Path], logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(lens(logs))
    (logs.parent / "bad.yaml").write_text("items:\n- {prompt: sun moon, intermediates: river}\n")
    assert main(arguments(tiny, logs, **{"intermediates.suite": logs.parent / "bad.yaml"})) == 2
    assert "bad.yaml, line 2: `intermediates` is not a list" in capsys.readouterr().err
    assert contents(lens(logs)) == before


def test_two_processes_find_what_one_finds(tiny: dict[str, Path], logs: Path, tmp_path: Path, fast: None) -> None:
    assert main(arguments(tiny, logs)) == 3
    one = {name: contents(lens(logs))[name] for name in GATE_FILES if not name.endswith("png")}
    two_processes = {"trainer.devices": 2, "trainer.strategy": "ddp"}
    command = [sys.executable, "-m", "logos_pl", *arguments(tiny, logs, **two_processes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 3, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("logos-pl: gate(s) ")
    two = contents(lens(logs))
    assert numbers(json.loads(two["gates.json"])) == pytest.approx(numbers(json.loads(one["gates.json"])), abs=1e-6)
    assert two["gates-intermediates.csv"] == one["gates-intermediates.csv"]
    for name in ("gates-prompts.csv", "gates-rows.csv"):
        of_one, of_two = (text.decode().splitlines() for text in (one[name], two[name]))
        assert len(of_one) == len(of_two)
        for line, other in zip(of_one, of_two, strict=True):
            assert cells(other) == pytest.approx(cells(line), abs=1e-5)


def test_the_shortest_model_and_the_smallest_question_have_a_verdict(
    tiny: dict[str, Path], tmp_path: Path, fast: None, capsys: pytest.CaptureFixture[str]
) -> None:
    short = {"model": make_model(tmp_path / "tiny-llama", num_hidden_layers=2), "corpus": tiny["corpus"]}
    logs, least = tmp_path / "run", {"data.tokens": 8 * 32, "data.val_seqs": 1}
    assert main(["fit", *fit_arguments(**short, logs=logs, **least)]) == 0
    options = least | {"data.test_seqs": 1, "data.positions_per_seq": 1, "data.suite": suite(tmp_path, FACTS[0])}
    assert main(arguments(short, logs, **options)) == 3
    document = gates(lens(logs))

    assert "by the model itself.\n" in capsys.readouterr().out
    assert list(document["kpis"]["skip_layers"]["perplexity"]) == ["0"]
    assert list(document["kpis"]["skip_layers"]["not_applicable"]) == ["2", "4", "8"]
    assert document["prompts"]["used"] == document["held_out_text"]["sequences"] == 1
    assert "1 prompts, where 6 are needed" in document["acceptance"]["gates"]["C"]["checks"][0]["reason"]


def numbers(value: Any, key: str = "") -> dict[str, Any]:
    """All leaves of a document by their path."""
    if isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return {path: leaf for name, part in parts for path, leaf in numbers(part, f"{key}/{name}").items()}
    return {key: value}


def cells(line: str) -> list[Any]:
    def cell(text: str) -> Any:
        try:
            return float(text)
        except ValueError:
            return text

    return [cell(text) for text in line.split(",")]


# What cannot be evaluated


def refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status and the one sentence on standard error."""
    capsys.readouterr()
    status = main(command)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return status, lines[0]


BAD_SUITES = {
    "an unknown field": (["  - prompt: sun", "    answer: sea", "    colour: red"], "line 4"),
    "a duplicate fact": (["  - {id: a, prompt: sun, answer: sea}", "  - {id: a, prompt: moon, answer: sea}"], "line 3"),
    "a fact without an answer": (["  - {id: one, prompt: sun, answer: sea}", "  - {id: two, prompt: sun}"], "line 3"),
    "no fact": (["  []"], "fact"),
}


@pytest.mark.parametrize("what", BAD_SUITES)
def test_a_suite_that_is_not_as_it_should_be_is_refused_with_its_line(
    what: str, tiny: dict[str, Path], logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, wanted = BAD_SUITES[what]
    before = contents(lens(logs))
    status, said = refused(arguments(tiny, logs, **{"data.suite": suite(tmp_path, *lines)}), capsys)

    assert status == 2
    assert wanted in said
    assert contents(lens(logs)) == before


def test_an_answer_that_cannot_be_aligned_is_counted_and_left_out(
    tiny: dict[str, Path], logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fast: None
) -> None:
    both = []
    for more in ([], ["  - {id: strange, prompt: sun moon, answer: unheard}"]):
        assert main(arguments(tiny, logs, **{"data.suite": suite(tmp_path, *FACTS, *more)})) == 3
        both.append(gates(lens(logs)))
    plain, strange = both

    assert plain["prompts"]["left_out"]["answer_unresolved"] == []
    assert strange["prompts"]["left_out"]["answer_unresolved"] == ["strange"]
    assert (strange["prompts"]["given"], strange["prompts"]["used"]) == (9, 8)
    assert numbers(strange["kpis"]) == pytest.approx(numbers(plain["kpis"]), abs=1e-5)
    (line,) = (text for text in (lens(logs) / "gates-prompts.csv").read_text().splitlines() if "strange" in text)
    assert line.startswith("strange,unresolved,False,,")
    assert "1 prompt(s) left out, as the answer merges" in capsys.readouterr().out


def test_the_lens_of_another_model_is_refused(
    tiny: dict[str, Path], logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    namesake = {"model": make_model(tmp_path / "tiny-llama", seed=5), "corpus": tiny["corpus"]}
    status, said = refused(arguments(namesake, logs), capsys)

    assert status == 2
    assert "The lens was trained for tiny-llama at commit" in said


@pytest.mark.parametrize("name", ["weights.pt", "bias_only.pt", "gates.json"])
def test_a_lens_or_a_verdict_that_was_altered_by_one_byte_is_refused(
    name: str, tiny: dict[str, Path], logs: Path, fast: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tiny, logs)) == 3
    data = bytearray((lens(logs) / name).read_bytes())
    data[len(data) // 2] ^= 1
    (lens(logs) / name).write_bytes(data)
    before = contents(lens(logs))
    status, said = refused(arguments(tiny, logs), capsys)

    assert status == 2
    assert f"{name} was altered" in said
    assert contents(lens(logs)) == before


def test_a_lens_without_a_bias_only_is_refused_with_the_remedy(
    tiny: dict[str, Path], logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read, provenance = load_tuned_lens(lens(logs))
    save_tuned_lens(lens(logs), read.translators, provenance)
    status, said = refused(arguments(tiny, logs), capsys)

    assert status == 2
    assert "--model.bias_only true" in said
    assert "gates.json" not in contents(lens(logs))


@pytest.mark.parametrize("more", [[], ["--ckpt_path=best"]])
def test_text_that_the_lens_may_have_been_trained_on_is_refused(
    more: list[str], tiny: dict[str, Path], logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(lens(logs))
    status, said = refused([*arguments(tiny, logs, **{"data.held_out_frac": 0.2}), *more], capsys)

    assert status == 2
    assert "give --data.held_out_frac 0.1" in said
    assert contents(lens(logs)) == before


def test_without_a_lens_there_is_nothing_to_evaluate(
    tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = refused(arguments(tiny, tmp_path / "nowhere", **{"data.suite": suite(tmp_path, *FACTS)}), capsys)

    assert status == 2
    assert "There is no tuned lens at" in said


def test_a_disk_that_refuses_the_verdict_leaves_the_earlier_one_whole(
    tiny: dict[str, Path], logs: Path, fast: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tiny, logs)) == 3
    before, rename = contents(lens(logs)), os.rename

    def refuse_new(source: Path, target: Path) -> None:
        if Path(source).name.endswith(".new"):
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr("logos_pl.artifacts.store.os.rename", refuse_new)
    status, said = refused(arguments(tiny, logs, **{"data.test_seqs": 6}), capsys)

    assert status == 1
    assert "No space left on device" in said
    assert contents(lens(logs)) == before
    load_tuned_lens(lens(logs))
