from pathlib import Path

import pytest
from matplotlib.figure import Figure

from logos_pl.sweeps.filenames import WHOLE_ENDINGS
from logos_pl.sweeps.leftovers import refuse_results
from logos_pl.sweeps.pictures import PICTURES, Drawn, draw_pictures
from logos_pl.sweeps.plots import PromptSample
from logos_pl.sweeps.records import PromptRecords
from tests.sweeps.made_records import made_attribution, prompt_records
from tests.sweeps.swept import random_prompt, sweep_records


def drawn(*records: PromptRecords, num_attributed: int | None = None) -> Drawn:
    sample = PromptSample()
    for record in records:
        sample.add(record)
    return Drawn(sample, len(records[0].norm_to_raw) - 1, "m", list(records[0].next_token), num_attributed)


def test_all_pictures_are_written_that_have_something_to_show(tmp_path: Path) -> None:
    (record, *_), made = sweep_records(1), made_attribution({"embedding": 0.5, "rounding": 0.25})
    everything = drawn(record._replace(attribution=made), num_attributed=1)
    names = draw_pictures(everything, lambda ending: tmp_path / ending)
    assert names == [f"{name}.png" for name in ("kl", "cosine", "entropy", "tokens", "rank", "decomposition")]
    assert {path.name for path in tmp_path.iterdir()} == set(names)


def test_without_answers_and_attribution_their_pictures_are_left_out(tmp_path: Path) -> None:
    unresolved = sweep_records(1)[-2]
    assert unresolved.answer_tokens.status == "unresolved"
    names = draw_pictures(drawn(unresolved), lambda ending: tmp_path / ending)
    assert names == ["kl.png", "cosine.png", "entropy.png", "tokens.png"]


def test_a_new_picture_is_one_function_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer and the JSON take names from `draw_pictures`; see docs/extending.md."""
    seen = []

    def toy(of: Drawn) -> Figure | None:
        seen.append((of.num_blocks, of.model_name, list(of.lenses), len(of.prompts.records)))
        return Figure(figsize=(1, 1)) if of.lenses else None

    for name in list(PICTURES):
        monkeypatch.delitem(PICTURES, name)
    monkeypatch.setitem(PICTURES, "toy", toy)
    names = draw_pictures(
        drawn(prompt_records({"norm": [2.0, 1.0, 0.0]})), lambda ending: tmp_path / f"output-m-{ending}"
    )
    assert names == ["output-m-toy.png"]
    assert (tmp_path / "output-m-toy.png").read_bytes().startswith(b"\x89PNG")
    assert seen == [(2, "m", ["norm"], 1)]


def test_a_folder_with_any_of_the_pictures_is_refused(tmp_path: Path) -> None:
    for name in PICTURES:
        assert f"-{name}.png" in WHOLE_ENDINGS
        path = tmp_path / f"output-m-{name}.png"
        path.touch()
        with pytest.raises(Exception, match="will not be overwritten"):
            refuse_results(tmp_path, "m")
        path.unlink()


def test_only_the_first_prompt_has_a_map_of_tokens(tmp_path: Path) -> None:
    of = drawn(*(random_prompt(i, record.prompt, record.answer_tokens) for i, record in enumerate(sweep_records(1))))
    assert [bool(record.positions) for record in of.prompts.records] == [True, *[False] * (len(of.prompts.records) - 1)]
