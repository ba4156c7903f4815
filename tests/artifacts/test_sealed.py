import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from logos_pl.artifacts.sealed import read_sealed, sealed
from logos_pl.errors import InputError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, data in sealed('{"τ": 1}\n').items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_a_provenance_comes_back_as_it_was(folder: Path) -> None:
    assert read_sealed(folder) == '{"τ": 1}\n'


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum on this machine")
def test_sha256sum_checks_the_same(folder: Path) -> None:
    command = ["sha256sum", "--check", "provenance.json.sha256"]
    assert subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("provenance.json", b'{"\xcf\x84": 2}\n', r"provenance\.json or provenance\.json\.sha256 was altered"),
        ("provenance.json.sha256", b"", r"provenance\.json\.sha256 was altered"),
        ("provenance.json.sha256", b"0" * 64 + b"  provenance.json\n", r"provenance\.json\.sha256 was altered"),
        ("provenance.json.sha256", b"0" * 2000, r"provenance\.json\.sha256 has 2,000 bytes or more"),
        ("provenance.json.sha256", None, r"provenance\.json\.sha256 cannot be read \(No such file"),
        ("provenance.json", None, r"provenance\.json cannot be read \(No such file"),
    ],
)
def test_either_of_the_two_altered_or_gone_is_refused(
    folder: Path, name: str, data: bytes | None, sentence: str
) -> None:
    (folder / name).unlink()
    if data is not None:
        (folder / name).write_bytes(data)
    with pytest.raises(InputError, match=sentence):
        read_sealed(folder)


def test_a_provenance_that_is_no_text_is_refused_though_its_hash_fits(folder: Path) -> None:
    (folder / "provenance.json").write_bytes(b"\xff")
    digest = hashlib.sha256(b"\xff").hexdigest()
    (folder / "provenance.json.sha256").write_text(f"{digest}  provenance.json\n")
    with pytest.raises(InputError, match=r"provenance\.json is not UTF-8 text"):
        read_sealed(folder)


@pytest.mark.parametrize("name", ["provenance.json", "provenance.json.sha256"])
def test_a_pipe_or_a_device_in_the_place_of_either_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(InputError, match=rf"{name} is not a regular file"):
        read_sealed(folder)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    with pytest.raises(InputError, match=rf"{name} is not a regular file"):
        read_sealed(folder)
