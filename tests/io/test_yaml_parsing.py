"""What a stranger's YAML can bring, and is refused in one sentence."""

import time

import pytest
import yaml

from logos_pl.errors import InputError
from logos_pl.io.yaml_parsing import compose_yaml, parse_yaml


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "nested deeper than 64 levels in line 1"),
        ("{a: " * 100_000, "nested deeper"),
        ("- " * 100_000, "nested deeper"),
        ("a: 1\nb: 2\na: 3\n", "'a' twice, in lines 1 and 3"),
        ("x:\n  a: 1\n  a: 2\n", "'a' twice, in lines 2 and 3"),
        ("a: &a [*a]", "holds itself"),
        ("a: [", "not valid YAML"),
        ("a: 1\n--- \nb: 2\n", "not valid YAML"),
        ("a: *nobody", "not valid YAML"),
        ("a: \x00", "U\\+0000"),
        ("a: !!bool x", "cannot be read"),
        ("a: !!timestamp x", "cannot be read"),
        ("a: !!python/object/apply:os.getcwd []", "cannot be read"),
        ("a: !!timestamp 2026-02-31", "cannot be read"),
        ("a: !!int many", "cannot be read"),
        ("a: 1" + "0" * 21, "beyond 64 bits"),
        ("a: 1" + "0" * 5000, "beyond 64 bits"),
        ("? [a]\n: 1", "cannot be read"),
        ("x" * (2**23 + 1), "at most"),
    ],
)
def test_yaml_that_would_harm_or_drop_something_is_refused(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        parse_yaml(text, "a.yaml")
    assert str(caught.value).startswith("a.yaml ")
    assert len(str(caught.value)) < 200


def test_aliases_that_stand_for_billions_of_values_are_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12)]
    began = time.monotonic()
    with pytest.raises(InputError, match="with its aliases"):
        parse_yaml("\n".join(lines), "a.yaml")
    assert time.monotonic() - began < 5  # it would take hours, and gigabytes


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("010", 10),
        ("1_000", 1000),
        ("-5", -5),
        ("1:30", "1:30"),
        ("0x10", "0x10"),
        ("1e-3", 0.001),
        ("8e3", 8000.0),
        ("1.5E+2", 150.0),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("nan", "nan"),
        ("2026-02-31", "2026-02-31"),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ("12a", "12a"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    read = parse_yaml(f"a: {text}", "a.yaml")["a"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "text",
    ["", "a: {b: [1, 2.5, null, true]}", "base: &b {x: 1}\nmore:\n  <<: *b\n  y: 2\n", "a: '*b'\n", "- é\n- 🙂\n"],
)
def test_yaml_is_read_as_the_library_reads_it(text: str) -> None:
    assert parse_yaml(text, "a.yaml") == yaml.safe_load(text)


def test_nodes_know_their_lines() -> None:
    root = compose_yaml("a: 1\nb: 2\n", "a.yaml")
    assert isinstance(root, yaml.MappingNode)
    assert [key.start_mark.line for key, _ in root.value] == [0, 1]


def test_a_surrogate_in_yaml_is_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match=r"^c\.yaml holds half of a surrogate pair"):
        parse_yaml("a: \ud800", "c.yaml")
