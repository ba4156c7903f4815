"""Where a comparison is written, and what is never overwritten."""

from pathlib import Path

import pytest

from logos_pl.compare.writer import FILES, new_folder, refuse_results
from logos_pl.errors import InputError, RunError


def test_a_folder_of_its_own_is_made_unless_one_is_given(tmp_path: Path) -> None:
    made = new_folder(tmp_path, "demo", None)
    assert made.parent == tmp_path / "comparisons"
    assert made.name.startswith("demo-20")
    given = new_folder(tmp_path, "demo", str(tmp_path / "a" / "b"))
    assert given.is_dir()
    assert new_folder(tmp_path, "demo", str(given)) == given, "an empty one is taken"


@pytest.mark.parametrize("file", FILES)
def test_an_earlier_comparison_is_not_overwritten(file: str, tmp_path: Path) -> None:
    (tmp_path / file).symlink_to("nowhere")
    for refuse in (refuse_results, lambda folder: new_folder(tmp_path, "demo", str(folder))):
        with pytest.raises(InputError, match=f"holds {file} already: choose another --compare.out_dir"):
            refuse(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="A file is in the way of the folder"):
        refuse_results(tmp_path / "file")
    with pytest.raises(InputError, match="A file is in the way of the folder"):
        new_folder(tmp_path, "demo", str(tmp_path / "file" / "below"))


def test_a_folder_that_cannot_be_made_leaves_none_above_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="File name too long"):
        new_folder(tmp_path, "demo", str(tmp_path / "a" / ("n" * 300)))
    assert list(tmp_path.iterdir()) == []
