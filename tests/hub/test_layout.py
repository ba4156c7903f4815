from datetime import UTC, datetime

import pytest

from logos_pl.errors import InputError
from logos_pl.hub.layout import artifact_path, check_tag, refuse_unsafe_name, refuse_unsafe_path, today


@pytest.mark.parametrize(
    ("model_id", "path"),
    [
        ("meta-llama/Llama-3.1-8B", "tuned_lenses/meta-llama/Llama-3.1-8B"),
        ("01-ai/Yi-34B", "tuned_lenses/01-ai/Yi-34B"),
        ("gpt2", "tuned_lenses/_local/gpt2"),
        ("demo", "tuned_lenses/_local/demo"),
    ],
)
def test_a_models_place_is_its_id_and_one_without_organisation_has_a_place_of_its_own(model_id: str, path: str) -> None:
    assert artifact_path("tuned_lenses", model_id) == path


@pytest.mark.parametrize(
    "model_id", ["", "..", "org/..", "../x", "a/b/c", "/x", "org/.x", "_local/demo", "a\\b", "a/b..c"]
)
def test_what_is_no_model_id_has_no_place(model_id: str) -> None:
    with pytest.raises(InputError, match="is not a model id"):
        artifact_path("prisms", model_id)


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../a", "/a", "a\\b", "C:a", "a\nb", "-rf"])
def test_a_name_that_is_not_a_name_alone_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="may be outside its folder"):
        refuse_unsafe_name(name, "INDEX.json")


def test_a_path_stays_in_its_folder() -> None:
    refuse_unsafe_path("LICENSES/org/x/LICENSE.txt", "LICENSES", "INDEX.json")
    for path in ("LICENSES", "LICENSE/x", "LICENSES/../x", "LICENSES//x", "/LICENSES/x"):
        with pytest.raises(InputError, match=r"INDEX\.json lists"):
            refuse_unsafe_path(path, "LICENSES", "INDEX.json")


def test_a_release_is_a_date_and_may_have_successors_on_the_same_day() -> None:
    for tag in ("v2026.01.31", "v2026.01.31.1", "v2026.12.01.12", today()):
        assert check_tag(tag) == tag
    for tag in ("2026.01.31", "v2026.1.31", "v2026.13.01", "v2025.02.29", "v2026.01.31.0", "v2026.01.31-rc", "main"):
        with pytest.raises(InputError, match="is not a release: give a date"):
            check_tag(tag)
    assert today() in {datetime.now(UTC).strftime("v%Y.%m.%d"), today()}
