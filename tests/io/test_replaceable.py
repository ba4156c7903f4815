from pathlib import Path

import pytest

from logos_pl.errors import InputError
from logos_pl.io.replaceable import PAGE_BEGIN, PNG_BEGIN, refuse_other_content


@pytest.mark.parametrize("begin", [PAGE_BEGIN, PNG_BEGIN])
def test_only_a_file_of_the_same_kind_is_replaced(begin: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    refuse_other_content(path, begin, "--html file")
    for content in (b"", begin, begin + b"more"):
        path.write_bytes(content)
        refuse_other_content(path, begin, "--html file")
    for content in (b"{}", begin[:-1], begin[:-1] + b"x", b" " + begin):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"^--html file is a file of another kind and is not replaced: give"):
            refuse_other_content(path, begin, "--html file")
