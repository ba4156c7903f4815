"""Which lens `read` and `chat` use: the one that is named, else the one that was fitted, else the logit lens."""

from pathlib import Path

import pytest

from logos_pl.artifacts.tuned_lens import save_tuned_lens
from logos_pl.cli.lens_at_hand import GivenModel, find_lens
from logos_pl.errors import InputError
from logos_pl.kinds import imported
from logos_pl.lenses.norm import NormLens
from logos_pl.lenses.tuned import TunedLens
from logos_pl.lm.frozen import FrozenLM
from tests.artifacts.lenses import make_lm, make_provenance, make_translators
from tests.tiny import make_imported_lens, make_jacobian_lens


@pytest.fixture
def lm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FrozenLM:
    monkeypatch.chdir(tmp_path)
    return make_lm()


def saved(folder: str, lm: FrozenLM) -> str:
    translators = make_translators()
    save_tuned_lens(Path(folder), translators, make_provenance(lm, translators), make_translators(rank=0))
    return folder


def test_without_a_fitted_lens_it_is_the_logit_lens_and_says_where_it_looked(lm: FrozenLM) -> None:
    lens = find_lens("org/tiny", None).load(lm)
    assert lens.name == "norm"
    assert lens.words == "logit lens (no tuned lens in checkpoints/tuned_lenses/tiny)"
    assert isinstance(lens.lenses["norm"], NormLens)
    assert lens.lenses.keys() == {"norm"}
    assert lens.command == "logos-pl predict --model.model_id=org/tiny"


def test_a_fitted_lens_is_taken_and_says_that_it_is_not_tested(lm: FrozenLM) -> None:
    folder = saved("checkpoints/tuned_lenses/tiny", lm)
    lens = find_lens("org/tiny", None).load(lm)
    assert lens.name == "tuned"
    assert lens.words == f"tuned lens, {folder} (not tested: `logos-pl test`)"
    assert isinstance(lens.lenses["tuned"], TunedLens)
    assert lens.lenses.keys() == {"norm", "tuned"}
    assert lens.lenses["tuned"].head.anatomy is lm.anatomy
    assert find_lens("org/tiny", "norm").load(lm).words == "logit lens"


def test_a_named_lens_is_taken_and_one_of_another_kind_by_its_kind(lm: FrozenLM) -> None:
    assert find_lens("org/tiny", saved("mine", lm)).load(lm).name == "tuned"
    make_imported_lens(Path("theirs"), model_id="org/tiny")
    lens = find_lens("org/tiny", "imported:theirs").load(lm)
    assert (lens.name, lens.words) == ("imported", "imported lens, theirs")
    assert lens.command == "logos-pl predict --model.model_id=org/tiny --lens.imported=theirs"
    make_jacobian_lens(Path("maps.pt"), (0, 2), provenance={"target_layer": 3})
    assert find_lens("org/tiny", "imported:maps.pt").load(lm).lenses["imported"].rows == (1, 3, 4)


def test_the_revision_of_an_imported_lens_is_part_of_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imported, "find_imported_lens", lambda source, model_id, revision: (source, revision))
    found = find_lens("org/tiny", "imported:org/lenses/j.pt", "v1")
    assert found.options == ("--lens.imported=org/lenses/j.pt@v1",)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere", "There is no artifact at nowhere"),
        ("tuned:nowhere", "There is no artifact at nowhere"),
        ("prism:nowhere", "there is no prism at nowhere: give the folder of one"),
        ("imported:", "needs the lens after the colon"),
        ("bias:mine", "has no files of its own: choose among tuned, prism, jacobian, imported"),
    ],
)
def test_a_lens_that_cannot_be_is_refused_by_name(given: str, message: str, lm: FrozenLM) -> None:
    with pytest.raises(InputError, match=message):
        find_lens("org/tiny", given)


def test_the_command_names_gguf_file_and_adapter() -> None:
    model = GivenModel("org/models", "m.gguf", "org/a@v1")
    assert model.options == ["--model.model_id=org/models", "--model.gguf=m.gguf", "--model.adapter=org/a@v1"]
    assert (model.recorded_id, model._replace(adapter=None).recorded_id) == ("org/a", "org/m.gguf")
