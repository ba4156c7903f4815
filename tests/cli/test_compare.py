"""`logos-pl compare` on fitted lenses of a tiny model."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from logos_pl.api import norm_lens, sweep
from logos_pl.cli.entry import main
from logos_pl.data.prompt_types import Prompt
from logos_pl.lm.frozen import FrozenLM
from logos_pl.sweeps.milestones import milestones
from tests.steps import REPO, commit_of, make_steps, offline
from tests.tiny import accepted, fit_arguments


@pytest.fixture
def arguments(tiny: dict[str, Path], fitted: Path) -> list[str]:
    return accepted("compare", fit_arguments(**tiny, logs=fitted))


def compare(arguments: list[str], a: str, b: str, *more: str) -> int:
    name, *options = arguments
    return main([name, a, b, *options, *more])


def document(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "compare.json").read_text())
    return read


def test_two_lenses_are_compared_at_every_row_and_nothing_is_overwritten(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert compare(arguments, "norm", "tuned", f"--compare.out_dir={out}") == 0
    said = capsys.readouterr().out
    assert "tiny-llama: A = norm, B = tuned" in said
    found = document(out)
    assert list(found["rows"]) == ["0", "1", "2", "3", "4"]
    for row in ("0", "4"):  # a tuned lens is the norm lens there
        assert abs(found["rows"][row]["kl_ab_bits"]["estimate"]) < 1e-6
        assert found["rows"][row]["top1_overlap_frac"]["estimate"] == 1
    assert found["rows"]["2"]["kl_ab_bits"]["estimate"] > 0.01
    assert found["rows"]["4"]["kl_final_b_bits"]["estimate"] < 1e-6 < found["rows"]["2"]["kl_final_b_bits"]["estimate"]
    assert (found["lenses"]["a"]["kind"], found["lenses"]["b"]["text_sha256"] is None) == ("norm", False)
    assert {path.name for path in out.iterdir()} == {"compare.json", "compare.csv", "compare.png"}

    assert compare(arguments, "bias", "norm", f"--compare.out_dir={out}") == 2
    assert "holds compare.json already: choose another --compare.out_dir." in capsys.readouterr().err
    assert document(out) == found


def test_two_lenses_are_needed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    name, *options = arguments
    assert main([name, "norm", *options]) == 2
    assert "compare needs two lenses, as in `logos-pl compare norm tuned" in capsys.readouterr().err


def test_the_order_of_the_lenses_only_exchanges_the_divergences(arguments: list[str], tmp_path: Path) -> None:
    for name, pair in (("one", ("bias", "tuned")), ("two", ("tuned", "bias"))):
        assert compare(arguments, *pair, f"--compare.out_dir={tmp_path / name}") == 0
    one, two = (document(tmp_path / name)["rows"] for name in ("one", "two"))
    for row in one:
        assert one[row]["kl_ab_bits"]["estimate"] == pytest.approx(two[row]["kl_ba_bits"]["estimate"], abs=1e-6)
        assert one[row]["top1_overlap_frac"] == two[row]["top1_overlap_frac"]


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        (("norm", "norm"), "Both lenses are norm: give two that differ."),
        (("norm", "tunde"), "There is no lens 'tunde'"),
        (("norm", "tuned=missing/lens"), "missing/lens"),
        (("norm", "prism"), "There is no prism"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(
    arguments: list[str], pair: tuple[str, str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(arguments, *pair) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_one_lens_spelled_two_ways_or_copied_is_refused(
    arguments: list[str], fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lens, link = fitted / "lenses" / "tiny-llama", tmp_path / "link"
    link.symlink_to(lens)
    copy = shutil.copytree(lens, tmp_path / "copy")
    for a, b in (("tuned", str(lens)), (f"tuned={lens}", str(link)), (str(copy), "tuned")):
        assert compare(arguments, a, b, f"--compare.out_dir={tmp_path / 'out'}") == 2
        assert "are the same lens: give two that differ." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# Revisions


@pytest.fixture(scope="module")
def steps(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("hub")
    make_steps(cache, tiny["model"])
    return cache


@pytest.fixture
def hub(steps: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from offline(monkeypatch, steps)


def over_revisions(tiny: dict[str, Path], logs: Path, lens: str, *more: str) -> list[str]:
    name, *options = accepted("compare", fit_arguments(**tiny, logs=logs))
    options = [option for option in options if not option.startswith("--model.model_id")]
    return [name, lens, f"--model.model_id={REPO}", *options, *more]


def some_facts(folder: Path) -> Path:
    items = "".join(f"- {{id: {word}, prompt: {word} moon, answer: sea}}\n" for word in ("sun", "star", "hill"))
    path = folder / "facts.yaml"
    path.write_text(f"facts:\n{items}")
    return path


@pytest.mark.usefixtures("hub")
def test_a_lens_over_revisions_has_the_milestones_of_a_sweep(tiny: dict[str, Path], tmp_path: Path) -> None:
    models = [f"{REPO}@{revision}" for revision in ("step1000", "step0", "step3000")]
    out = tmp_path / "out"
    arguments = over_revisions(tiny, tmp_path, "norm", f"--compare.suite={some_facts(tmp_path)}")
    assert main([*arguments, f"--compare.out_dir={out}", "--models", *models]) == 0
    found = document(out)
    assert [of["step"] for of in found["revisions"]] == [1000, 0, 3000]
    assert [of["model_commit"] for of in found["revisions"]] == [commit_of(1), commit_of(0), commit_of(3)]
    for of in found["revisions"]:
        lm = FrozenLM.load(f"{of['model_id']}@step{of['step']}")
        prompts = [Prompt(word, "orig", f"{word} moon", "sea") for word in ("sun", "star", "hill")]
        swept = [
            milestones(of_one.next_token["norm"]) for of_one in sweep(lm, prompts, {"norm": norm_lens(lm)}).prompts
        ]
        for name in ("first_rank_le_1", "first_rank_le_10", "first_kl_below_1.0", "first_kl_below_0.5"):
            rows = [getattr(reached, name.replace(".", "_")) for reached in swept]
            there = [row for row in rows if row is not None]
            at = of["answers_milestones"][name]
            assert at["reached_frac"] == pytest.approx(len(there) / len(rows))
            assert (None if at["row"] is None else at["row"]["estimate"]) == (
                pytest.approx(sum(there) / len(there)) if there else None
            )
        assert (
            of["text_milestones"]["first_rank_le_1"]["row"]["estimate"]
            <= (of["text_milestones"]["top1_settled"]["row"]["estimate"])
        )
        assert of["rows"]["4"]["kl_from_final_bits"]["estimate"] == pytest.approx(0, abs=1e-6)


@pytest.mark.usefixtures("hub")
def test_revisions_with_the_same_weights_are_marked_and_a_folder_with_results_is_refused_at_once(
    tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = over_revisions(tiny, tmp_path, "norm", "--compare.suite=off", f"--compare.out_dir={out}")
    models = ["--models", f"{REPO}@step3000", f"{REPO}@main"]
    with pytest.warns(UserWarning, match="steps@step3000 and steps@main have the same fingerprint"):
        assert main([*arguments, *models]) == 0
    found = document(out)
    assert found["by"] == "order"
    assert [of["same_weights_as"] for of in found["revisions"]] == [None, "steps@step3000"]
    assert found["revisions"][0]["rows"] == found["revisions"][1]["rows"]
    capsys.readouterr()
    assert main([*arguments, *models]) == 2
    said = capsys.readouterr()
    assert "holds compare.json already: choose another --compare.out_dir" in said.err
    assert "model 1 of 2" not in said.out


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("lenses", "models", "message"),
    [
        (["norm", "tuned"], ["a@step1", "a@step2"], "give one lens with --models, two without"),
        (["norm"], ["a@step1"], "tracks one lens over two or more revisions"),
        (["tunde"], ["a@step1", "a@step2"], "There is no lens 'tunde'"),
    ],
)
def test_what_is_no_lens_over_revisions_is_refused(
    tiny: dict[str, Path], tmp_path: Path, lenses: list[str], models: list[str], message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    name, _, *options = over_revisions(tiny, tmp_path, "norm")
    assert main([name, *lenses, *options, "--models", *models]) == 2
    assert message in capsys.readouterr().err
