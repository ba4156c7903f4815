"""Whatever is given for an option or written into a configuration: taken rightly, or refused in one sentence."""

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from logos_pl.cli.command import Command
from logos_pl.cli.compare import Compare
from logos_pl.cli.configuration import check_arguments, read_configuration
from logos_pl.cli.entry import main
from logos_pl.cli.predict import Predict
from logos_pl.cli.run import KINDS, SECTIONS, LogosCLI
from logos_pl.cli.trainer_options import TrainerSettings
from logos_pl.errors import InputError
from logos_pl.sweeps.writer import SweepDestination

DEMO = "data: {dataset: demo, seq_len: 128, tokens: 1_000_000}\nmodel: {model_id: demo}\n"

IN_A_FILE = ("null", ".nan", "0", '""', "[1, 2]", "8e3")
ON_THE_COMMAND_LINE = ("-1", "9" * 30, "true", "{a: 1}", "many")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with the demo's configuration, where nothing is made or run."""
    folder = tmp_path_factory.mktemp("parsed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        patch.setattr("logos_pl.cli.fit.new_run_folder", lambda root, name, create: Path("run"))
        patch.setattr("logos_pl.cli.fit.hold_run_folder", lambda folder: None)
        patch.setattr(LogosCLI, "instantiate_classes", lambda cli: None)
        Path("demo.yaml").write_text(DEMO)
        yield folder


@pytest.fixture
def settled(folder: Path) -> Callable[..., Any]:
    """What the arguments come to with the demo's configuration, once they are parsed and planned with."""

    def configure(command: Command) -> None:
        command.one_of_several = not isinstance(command, Compare)
        if isinstance(command, Predict):
            command.destination = SweepDestination()

    def resolve(*arguments: str, command: str = "fit") -> Any:
        lenses = ["norm", "bias"] if command == "compare" else []
        return LogosCLI(KINDS[command], [*lenses, "--config=demo.yaml", *arguments], configure).config

    return resolve


@pytest.fixture
def written(folder: Path) -> Callable[[str | bytes], str]:
    """A configuration file with a text, as an argument."""

    def write(text: str | bytes) -> str:
        Path("c.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return "--config=c.yaml"

    return write


def assert_plain(message: str) -> None:
    assert "\n" not in message
    assert len(message) < 600
    assert message.endswith((".", ").", "?"))
    for foreign in ("<class", "typing.", "Union", "Namespace", "NestedArg", "Traceback"):
        assert foreign not in message


CASES = [
    *(("fit", section) for section in ("model", "data", "early_stopping", "export", "trainer", "")),
    *(("predict", section) for section in ("data", "sweep", "lens", "export", "trainer", "")),
    *(("prism", section) for section in ("data", "prism")),
    ("jacobian", "jacobian"),
    ("test", "data"),
    ("test", "lens"),
    ("test", "intermediates"),
    ("validate", "prism"),
    ("validate", "validate"),
    ("compare", "compare"),
]
"""Commands, and sections of their options; the empty one stands for options outside of all sections."""


def options_of(command: str, section: str) -> dict[str, Any]:
    """A section's options with their defaults."""
    kind = KINDS[command]
    if section == "":
        return {name: option.default for name, option in kind.options.items()}
    settings = TrainerSettings if section == "trainer" else kind.groups[section]
    own = {f"{section}.{part.name}": part.default for part in fields(settings)}
    return {name: None if value is MISSING else value for name, value in own.items() if name in kind.accepts()}


@pytest.mark.slow
@pytest.mark.parametrize(("command", "section"), CASES)
def test_a_value_of_every_kind_is_taken_rightly_or_refused_in_one_sentence(
    command: str, section: str, settled: Callable[..., Any], written: Callable[[str], str]
) -> None:
    options = options_of(command, section)
    assert options
    for option, default in options.items():
        for value in (*IN_A_FILE, *ON_THE_COMMAND_LINE):
            argument = f"--{option}={value}"
            if value in IN_A_FILE:
                argument = written(nested(option, value))
            message, taken = refused_or_taken(partial(settled, command=command), argument, option)
            if message is not None:
                assert_plain(message)
                assert option in message or value in message, message
                continue
            if default is not None:
                assert taken is not None, (option, value)
                takes_both = option == "model.fp32_unembed"  # a bool, or `auto`
                assert takes_both or isinstance(taken, bool) == isinstance(default, bool), (option, value)
            if not isinstance(taken, str | bool | None):
                numbers = taken if isinstance(taken, list | tuple) else [taken]
                ours = [number for number in numbers if not isinstance(number, str)]
                assert all(number >= 0 and math.isfinite(number) for number in ours), (option, value)


def test_every_option_of_every_command_is_tried_above() -> None:
    tried = {name for command, section in CASES for name in options_of(command, section)}
    assert {name for kind in KINDS.values() for name in kind.accepts()} == tried


def nested(option: str, value: str) -> str:
    """An option with its value, as a configuration has it."""
    parts = option.split(".")
    return "".join(f"{{{part}: " for part in parts) + value + "}" * len(parts)


def refused_or_taken(settled: Callable[..., Any], argument: str, option: str) -> tuple[str | None, Any]:
    """The sentence that an argument is refused in, or what the option comes to with it."""
    try:
        return None, settled(argument)[option]
    except InputError as error:
        return str(error), None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 50_000, "c.yaml is nested deeper than 64 levels"),
        ("model: " + "[" * 3000 + "]" * 3000, "c.yaml is nested deeper than 64 levels"),
        ("model: {rank: '" + "[" * 50_000 + "'}", "rank is nested deeper than 64 levels"),
        ("- a: [" * 30, "c.yaml is not valid YAML"),
        ("model: {rank: 4}\nmodel: {lr: 1}", "c.yaml has the key 'model' twice, in lines 1 and 2"),
        ("model:\n  rank: 4\n  rank: 5\n", "c.yaml has the key 'rank' twice, in lines 2 and 3"),
        (b"\xff\xfe", "--config c.yaml is not UTF-8 text"),
        ("x" * (2**16 + 1), "at most 65,536 are read"),
        ("", "c.yaml has no options"),
        ("- model", "c.yaml has no options"),
        ("5", "c.yaml has no options"),
        ("model: 3", "c.yaml: `model` must contain options, one per line below it (got 3)."),
        ("model:\n", "c.yaml: `model` must contain options, one per line below it (got nothing)."),
        ("data: [1]", "c.yaml: `data` must contain options"),
        ("model: other.yaml", "c.yaml: `model` must contain options"),
        ("config: other.yaml", "c.yaml: `config` names another configuration"),
        ("1: 2", "the key 1, which is not an option"),
        ("model: {__path__: x}", "the key '__path__', which is not an option"),
        ("models: demo", "c.yaml: `models` must be a list (got 'demo')."),
        ("foo: 3", "There is no option --foo of fit"),
        ("trainer: {max_steps: 3}", "There is no option --trainer.max_steps of fit"),
        ("data: {seq_len: 1:30}", "seq_len 1:30 is not a number"),
        ("data: {name: 4}", "--data.name must be text or null (got 4; put it in quotes)."),
        ("data: {tokens: 8e3}", "--data.tokens must be a whole number or 'auto' (got 8000.0; write 8000)."),
        ("!!python/object/apply:os.system [ls]", "c.yaml holds a value that cannot be read"),
    ],
)
def test_a_configuration_that_cannot_be_read_as_one_is_refused(
    text: str | bytes, says: str, settled: Callable[..., Any], written: Callable[[str | bytes], str]
) -> None:
    with pytest.raises(InputError) as caught:
        settled(written(text))
    assert says in str(caught.value)
    assert_plain(str(caught.value))


@pytest.mark.parametrize(("command", "text", "says"), [
    ("fit", "data: {model_id: demo}", "There is no option --data.model_id of fit: did you mean --model.model_id?"),
    ("fit", "data: {seed: 5}", "There is no option --data.seed of fit"),
    ("predict", "model: {rnak: 3}", "There is no option --model.rnak of predict"),
])  # fmt: skip
def test_what_is_no_option_in_a_configuration_is_not_dropped_without_a_word(
    command: str, text: str, says: str, settled: Callable[..., Any], written: Callable[[str], str]
) -> None:
    with pytest.raises(InputError) as caught:
        settled(written(text), command=command)
    assert str(caught.value).startswith(says)


def test_one_configuration_serves_all_commands_and_each_takes_what_is_its_own(
    settled: Callable[..., Any], written: Callable[[str], str]
) -> None:
    argument = written("data: {tokens: 20_000, prompts: facts}\nsweep: {prism: off}\nschedule: quick\nmodels: [demo]\n")
    fit, selftest = settled(argument), settled(argument, command="selftest")
    assert (fit["data.tokens"], fit.schedule) == (20_000, "quick")
    assert "prompts" not in fit.data
    own = {"prompts": "facts", "prompt": None, "token_ids": None, "answer": None, "special_tokens": "auto"}
    assert selftest.data.as_dict() == own


@pytest.mark.parametrize(("command", "argument", "takers"), [
    ("predict", "--data.tokens=5", "fit"),
    ("fit", "--data.suite=x", "test"),
    ("fit", "--sweep.prism=off", "predict"),
    ("validate", "--data.prompt=x", "predict and selftest"),
    ("selftest", "--ckpt_path=last", "fit, validate, test, compare and predict"),
])  # fmt: skip
def test_an_option_of_another_command_is_refused_by_name(
    command: str, argument: str, takers: str, settled: Callable[..., Any]
) -> None:
    option = argument.partition("=")[0]
    with pytest.raises(InputError, match=f"{option} is an option of {takers}, but not of {command}"):
        settled(argument, command=command)


def test_aliases_that_stand_for_billions_are_refused_at_once(
    settled: Callable[..., Any], written: Callable[[str], str]
) -> None:
    bomb = "\n".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 12))
    began = time.monotonic()
    with pytest.raises(InputError, match="with its aliases"):
        settled(written("a0: &a0 [x, x]\n" + bomb))
    with pytest.raises(InputError, match=r"The value of --data\.seq_len has more than"):
        settled("--data.seq_len={a0: &a0 [x, x], " + bomb.replace("\n", ", ") + "}")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "gpt2"], "--model is a group of options: give them one by one, as --model.NAME"),
        (["--data=fifo"], "--data is a group of options"),
        (["--config"], "--config needs a value"),
        (["--config="], "--config needs the path of a configuration"),
        (["--config", "nowhere.yaml"], "--config nowhere.yaml cannot be read (No such file or directory)"),
        (["-cnowhere.yaml"], "--config nowhere.yaml cannot be read"),
        (["-c", "fifo"], "--config fifo is not a regular file"),
        (["--config", "."], "--config . is not a regular file"),
        (["--config=/dev/zero"], "--config /dev/zero is not a regular file"),
        (["--config", "{model: {rank: 3}}"], "--config {model: {rank: 3}} cannot be read"),
        (["--config", "a\0b"], "cannot be read (embedded null byte)"),
        (["--config", "x" * 300], "cannot be read (File name too long)"),
        (["--data.tokens", "8e3"], "--data.tokens must be a whole number or 'auto' (got 8e3; write 8000)."),
        (
            ["--data.tokens", "32M"],
            "--data.tokens must be a whole number or 'auto' (got 32M; write 32000",
        ),
        (["--data.tokens", "[" * 100_000], "The value of --data.tokens is nested deeper than 64 levels"),
        (["--data.tokens.a=3"], "--data.tokens.a must be a whole number or 'auto' (got '3')"),
        (["--data" + ".a" * 100_000 + "=3"], "… is not an option"),
        (["--data.seq_len=1:30"], "--data.seq_len 1:30 is not a number"),
        (["--model.lr", "1" + "0" * 5000], "characters left out) … 0000"),
        (["--model.betas=[0.9]"], "--model.betas must be a list of two numbers (got [0.9])."),
        (["--seed_everything=true"], "--seed_everything must be a whole number (got True)."),
        (["--model.model_id="], "--model.model_id is empty"),
        (["--export.folder= "], "--export.folder is empty"),
        (["--model.model_id=\udcff"], "--model.model_id '\\udcff' is not UTF-8 text"),
        (["--unknown"], "There is no option --unknown of fit: see"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(
    arguments: list[str], says: str, settled: Callable[..., Any]
) -> None:
    if not Path("fifo").exists():
        os.mkfifo("fifo")
    with pytest.raises(InputError) as caught:
        settled(*arguments)
    assert says in str(caught.value)
    assert_plain(str(caught.value))


@pytest.mark.parametrize(
    ("text", "says"), [("\udcff", "--data.prompt '\\udcff' is not UTF-8 text"), ("a\0", "contains a NUL character")]
)
def test_a_prompt_that_is_no_text_is_refused(text: str, says: str, settled: Callable[..., Any]) -> None:
    with pytest.raises(InputError) as caught:
        settled(f"--data.prompt={text}", command="predict")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "text", ["[" * 1000, "Paris:", "{a, b}", "a: b", "- x", "-", "1:30", "010", "*x", "!!int x", "don't [", "5"]
)
def test_a_prompt_is_the_text_that_was_typed(text: str, settled: Callable[..., Any]) -> None:
    assert settled(f"--data.prompt={text}", command="predict")["data.prompt"] == text


@pytest.mark.parametrize(
    ("given", "option", "value"),
    [
        ("model: {precond: off}", "model.precond", "off"),
        ("data: {tokens: 020_000}", "data.tokens", 20_000),
        ("data: {seq_len: 0100}", "data.seq_len", 100),
        ("model: {lr: 1e-3}", "model.lr", 0.001),
        ("model: {compile: yes}", "model.compile", True),
        ("data: {name: 2026-01-01}", "data.name", "2026-01-01"),
        ('{"model": {"rank": 7}}', "model.rank", 7),
    ],
)
def test_a_configuration_means_what_it_says(
    given: str, option: str, value: object, settled: Callable[..., Any], written: Callable[[str], str]
) -> None:
    assert settled(written(given))[option] == value


def test_arguments_that_are_no_options_are_left_to_the_parser() -> None:
    check_arguments(["fit", "model", "--data.answer", "[" * 1000, "--config"], SECTIONS)


def test_a_configuration_is_read_as_plain_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text("model: {model_id: demo}\nseed_everything: 1\n")
    assert read_configuration("c.yaml", SECTIONS) == {"model": {"model_id": "demo"}, "seed_everything": 1}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "The command is missing: see"),
        (["ft"], "There is no command 'ft': did you mean fit?"),
        (["fit", "extra"], "unrecognized arguments: extra"),
    ],
)
def test_a_command_that_is_missing_or_mistyped_is_said(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"logos-pl: {says}")


def test_a_tilde_is_the_home_folder_in_every_option_that_is_a_path(
    settled: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Shells leave it in `--option=~/folder`; a folder of the name `~` is a trap for who removes it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    options = ("--export.folder=~/lenses", "--trainer.default_root_dir=~/logs", "--data.prompt=~/text")
    config = settled(*options, command="predict")
    assert (config.export.folder, config.trainer.default_root_dir) == (f"{tmp_path}/lenses", f"{tmp_path}/logs")
    assert config.data.prompt == "~/text"
