from pathlib import Path

import pytest

from logos_pl.errors import InputError
from logos_pl.sweeps.folder import open_given_folder
from logos_pl.sweeps.record_csv import position_header


def test_what_a_kill_left_before_a_prompt_was_read_is_removed_and_what_was_read_is_kept(tmp_path: Path) -> None:
    header, other = ",".join(position_header()) + "\n", ".output-Qwen3-8B-kl.png.partial"
    (tmp_path / "output-Qwen3-records.csv.partial").write_text(header)
    (tmp_path / "output-Qwen3-pure-next-token-tuned.csv.partial").write_text("prompt_id,prompt_va")
    (tmp_path / "output-Qwen3-page.html.partial").write_text("<html>")
    (tmp_path / ".output-Qwen3-kl.png.partial").write_text("half")
    (tmp_path / ".output-Qwen3.json.partial").write_text("{")
    (tmp_path / other).write_text("another model's")
    with open_given_folder(tmp_path, ["Qwen3"]):
        assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == [other]

    (tmp_path / "output-Qwen3-records.csv.partial").write_text(f"{header}p1,0\n")
    (tmp_path / "output-Qwen3-page.html.partial").write_text("<html>")
    with pytest.raises(InputError, match=r"output-Qwen3-page\.html\.partial exists from another sweep"):
        open_given_folder(tmp_path, ["Qwen3"])
    assert (tmp_path / "output-Qwen3-records.csv.partial").read_text() == f"{header}p1,0\n"
