from pathlib import Path

from benchmarks.larger_than_memory import COMMANDS, digest_of, options_of, run
from logos_pl.cli.run import KINDS


def test_a_command_ends_with_its_peak_and_a_limit_holds(tmp_path: Path) -> None:
    done = run(["--help"], tmp_path / "log", limit=None)
    assert done.status == 0
    assert done.peak > 5e6
    assert "logos-pl" in (tmp_path / "log").read_text()
    assert run(["--help"], tmp_path / "log", limit=2**22).status != 0, "Python itself takes more than 4 MiB"


def test_every_command_has_the_options_it_is_given(tmp_path: Path) -> None:
    for placement in ("streamed", "resident"):
        for name, (command, *options) in options_of(tmp_path / "m", tmp_path, placement).items():
            assert command == name
            given = {option.partition("=")[0].removeprefix("--") for option in options if option.startswith("--")}
            assert given <= KINDS[name].accepts()
            assert "model.placement" in given
    assert set(options_of(tmp_path, tmp_path, "resident")) == set(COMMANDS)


def test_what_is_written_is_compared_by_its_numbers(tmp_path: Path) -> None:
    (tmp_path / "lenses" / "m").mkdir(parents=True)
    (tmp_path / "lenses" / "m" / "weights.pt").write_bytes(b"1")
    (tmp_path / "a.csv").write_text("1,2")
    before = digest_of(tmp_path)
    (tmp_path / "fit.log").write_text("others are not")
    assert digest_of(tmp_path) == before
    (tmp_path / "lenses" / "m" / "weights.pt").write_bytes(b"2")
    assert digest_of(tmp_path) != before
