import json
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from logos_pl.artifacts.json_codec import LEFT_OUT, from_json, to_json
from logos_pl.errors import InputError


@dataclass(frozen=True)
class Inner:
    pair: tuple[float, int]
    words: list[str]


@dataclass(frozen=True)
class Record:
    count: int
    share: float
    rule: Literal["final", "next"]
    inner: Inner
    by_name: dict[str, Inner]
    maybe: Inner | None
    flag: bool
    open: dict[str, Any] | None = None
    more: list[int] = field(default_factory=list)


RECORD = Record(3, 0.5, "next", Inner((1.5, 2), ["a/b", "τ"]), {"x": Inner((2.0, 1), [])}, None, True, {"k": [1, None]})


def altered(**changes: Any) -> str:
    return json.dumps(json.loads(to_json(RECORD)) | changes)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"count": ' + "9" * 5000 + "}"])
def test_what_is_beyond_pythons_limits_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(InputError, match=r"^r\.json (is nested deeper than|holds an integer of 5000 digits)[^\n]*$"):
        from_json(Record, text, "r.json")


def test_a_record_survives_json() -> None:
    assert from_json(Record, to_json(RECORD), "r.json") == RECORD


def test_a_whole_number_passes_for_a_float_and_becomes_one() -> None:
    read = from_json(Record, altered(share=2), "r.json")
    assert read.share == 2.0
    assert type(read.share) is float


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"surplus": 1}, "r.json has the unknown field surplus"),
        ({"inner": {"pair": [1.0, 2]}}, "inner lacks the field words"),
        ({"inner": {"pair": [1.0, 2], "words": [], "x": 0}}, "inner has the unknown field x"),
        ({"count": 1.0}, "count is 1.0, but must be of type int"),
        ({"count": True}, "count is True, but must be of type int"),
        ({"count": None}, "count is None, but must be of type int"),
        ({"share": "0.5"}, "share is '0.5', but must be of type float"),
        ({"share": False}, "share is False"),
        ({"flag": 1}, "flag is 1, but must be of type bool"),
        ({"rule": "last"}, "rule is 'last', but must be one of final, next"),
        ({"inner": {"pair": [1.0, 2, 3], "words": []}}, "pair is .* a list of 2"),
        ({"inner": {"pair": [1.0, 2], "words": [1]}}, r"words\[0\] is 1, but must be of type str"),
        ({"by_name": {"x": []}}, r"by_name.x is \[\], but must be of type dict"),
        ({"open": []}, "open is"),
    ],
)
def test_anything_else_is_refused_by_its_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_json(Record, altered(**changes), "r.json")


def test_a_missing_field_is_refused_even_where_the_dataclass_has_a_default() -> None:
    plain = json.loads(to_json(RECORD))
    del plain["more"]
    with pytest.raises(InputError, match=r"r\.json lacks the field more"):
        from_json(Record, json.dumps(plain), "r.json")


@pytest.mark.parametrize("text", ["", "{", "[1,]", "nonsense"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"r\.json is not valid JSON"):
        from_json(Record, text, "r.json")


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_numbers_json_does_not_have_are_refused_on_reading(constant: str) -> None:
    text = to_json(RECORD).replace("0.5", constant)
    with pytest.raises(InputError, match="not valid JSON"):
        from_json(Record, text, "r.json")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_json_does_not_have_are_refused_on_writing_with_their_field(number: float) -> None:
    with pytest.raises(InputError, match=r"inner.pair\[0\] is"):
        to_json(Record(3, 0.5, "next", Inner((number, 2), []), {}, None, True))


@pytest.mark.parametrize(
    "path", ["/home/me/text", "read from /data/text by line", "C:\\text", "~/text", "file:/data/text", "('/a/b')", "/x"]
)
def test_paths_of_this_machine_are_never_written(path: str) -> None:
    with pytest.raises(InputError, match=r"open.source\[0\] holds a path on this machine"):
        to_json(Record(3, 0.5, "next", Inner((1.0, 2), []), {}, None, True, {"source": [path]}))


@pytest.mark.parametrize(
    "text", ["org/model", "a/b/c.pt", "and/or", "https://hub.co/org/model", "1 / 2", "KL(P/Q)", "3:4"]
)
def test_slashes_that_are_no_absolute_paths_are_written(text: str) -> None:
    record = Record(3, 0.5, "next", Inner((1.0, 2), []), {}, None, True, {"source": text})
    assert json.loads(to_json(record))["open"] == {"source": text}


@dataclass(frozen=True)
class Grown:
    count: int
    later: Inner | None = field(default=None, metadata={LEFT_OUT: True})


def test_a_field_that_is_left_out_is_not_there_where_it_is_none() -> None:
    assert json.loads(to_json(Grown(3))) == {"count": 3}
    assert from_json(Grown, '{"count": 3}', "r.json") == Grown(3)
    full = Grown(3, Inner((1.5, 2), []))
    assert from_json(Grown, to_json(full), "r.json") == full
    with pytest.raises(InputError, match="later lacks the field words"):
        from_json(Grown, '{"count": 3, "later": {"pair": [1.0, 2]}}', "r.json")
    with pytest.raises(InputError, match=r"r\.json lacks the field count"):
        from_json(Grown, "{}", "r.json")
