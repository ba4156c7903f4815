"""Two models are the same where format and hashes are, whatever their files are called."""

from dataclasses import replace

import pytest

from logos_pl.lm.loaded_as import LoadedAs, MergedAdapter

ADAPTER = MergedAdapter("org/a", "c" * 40, "a" * 64, "LORA", "org/base", "b" * 40)
STORED = LoadedAs("GGUF Q8_0", "de-quantised when it is loaded", "org/m", "m.gguf", "f" * 64)
ADAPTED = LoadedAs(adapter=ADAPTER)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (STORED, replace(STORED, file="n.gguf", repo_id="n"), True),
        (STORED, replace(STORED, sha256="e" * 64), False),
        (STORED, LoadedAs(), False),
        (LoadedAs("fp8"), LoadedAs(), False),
        (ADAPTED, LoadedAs(adapter=replace(ADAPTER, adapter_id="mine", commit="sha256:1")), True),
        (ADAPTED, LoadedAs(adapter=replace(ADAPTER, sha256="b" * 64)), False),
        (ADAPTED, LoadedAs(), False),
        (LoadedAs(), LoadedAs(), True),
    ],
)
def test_models_are_compared_by_what_they_hold(one: LoadedAs, other: LoadedAs, same: bool) -> None:
    assert one.same_numbers(other) == other.same_numbers(one) == same


def test_the_words_say_format_and_adapter() -> None:
    assert STORED.words() == "GGUF Q8_0, de-quantised when it is loaded"
    assert ADAPTED.words() == "the LORA adapter org/a, merged into org/base"
    assert LoadedAs().words() == ""


def test_an_adapted_models_commit_depends_on_base_and_adapter() -> None:
    assert ADAPTER.model_commit == replace(ADAPTER, commit="main", type="DORA").model_commit
    for names in ({"base_id": "renamed"}, {"adapter_id": "moved"}):
        assert replace(ADAPTER, **names).model_commit == ADAPTER.model_commit
    for changes in ({"sha256": "b" * 64}, {"base_commit": "c" * 40}):
        assert replace(ADAPTER, **changes).model_commit != ADAPTER.model_commit
