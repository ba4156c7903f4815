"""The depth at which answers are read is that of the ranks in a sweep's files."""

from pathlib import Path

import pytest

from benchmarks import answer_depth
from benchmarks.answer_depth import answer_depth_figure, first_rows, ranks_of
from logos_pl.errors import InputError
from logos_pl.sweeps.record_csv import RecordWriter
from logos_pl.sweeps.records import NextTokenRecord, PositionRecord

RANKS = {"a": [900, 50, 10, 3, 1], "b": [7, 80, 60, 20, 10], "c": [5, 5, 5, 5, 11]}


def record(lens: str, prompt: str, row: int, rank: int | None) -> NextTokenRecord:
    return NextTokenRecord(
        prompt_id=prompt, prompt_variant="orig", lens=lens, fact="", layer=row, pos=3, token_id=1, token="t",
        entropy_bits=1.0, teacher_entropy_bits=1.0, top=(), rest_mass=1.0, p_top1=0.1, p_top5=0.2, p_answer=0.1,
        answer_rank=rank, is_answer=rank == 1, answer_logit_gap=0.0, answer_nll_bits=1.0, kl_to_final_bits=1.0,
        kl_from_final_bits=1.0, cos_to_final=0.5, control_margin=None, copy_collapse=False,
        copy_soft=(False,) * 3, copy_at=(False,) * 4, identity_row=False, entropy_collapse=False,
    )  # fmt: skip


def written(path: Path, lens: str, ranks: dict[str, list[int]]) -> Path:
    with RecordWriter(path, NextTokenRecord) as writer:
        writer.write(
            record(lens, prompt, row, rank) for prompt, by_row in ranks.items() for row, rank in enumerate(by_row)
        )
        writer.write(record(lens, "unresolved", row, None) for row in range(5))
    return path


def test_only_answers_that_the_model_itself_has_are_counted_from_the_first_row_that_reads_them(tmp_path: Path) -> None:
    lens, ranks = ranks_of(written(tmp_path / "norm.csv", "norm", RANKS))
    assert lens == "norm"
    assert ranks == {"a orig": RANKS["a"], "b orig": RANKS["b"]}
    assert first_rows(ranks) == [2, 0]


def test_the_picture_has_the_median_rank_and_the_share_read_by_row() -> None:
    figure = answer_depth_figure({"norm": {"a": RANKS["a"], "b": RANKS["b"]}, "tuned": {"a": [9, 1, 1, 1, 1]}})
    rank_axes, share_axes = figure.axes
    assert list(rank_axes.lines[0].get_ydata()) == [453.5, 65, 35, 11.5, 5.5]
    assert list(share_axes.lines[0].get_ydata()) == [0.5, 0.5, 1, 1, 1]
    assert rank_axes.yaxis_inverted()


def test_one_command_draws_and_says_the_median_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(written(tmp_path / f"{lens}.csv", lens, RANKS)) for lens in ("norm", "tuned")]
    picture = tmp_path / "img" / "depth.png"
    assert answer_depth.main([*files, "--png", str(picture)]) == 0
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert capsys.readouterr().out.splitlines()[0] == (
        "norm: 2 answers, among the first 10 from row 1 of 4 on (median)"
    )


def test_a_file_of_positions_or_without_known_answers_is_refused(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "positions.csv", PositionRecord) as writer:
        writer.write([PositionRecord("a", "orig", "norm", "", 0, 0, 1, "t", 1.0, 1.0, 1.0, (), 1.0)])
    with pytest.raises(InputError, match="has no next-token records"):
        ranks_of(tmp_path / "positions.csv")
    unknown = written(tmp_path / "unknown.csv", "norm", {"c": RANKS["c"]})
    assert answer_depth.main([str(unknown), "--png", str(tmp_path / "none.png")]) == 2
    assert not (tmp_path / "none.png").exists()
