import subprocess
import tomllib
from pathlib import Path

import pytest
import torch
import transformers

from logos_pl.artifacts.environment import environment, git_sha, project_version

GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "-c", "core.hooksPath=none"]


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run([*GIT, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "one")
    git(tmp_path, "tag", "-am", "nine", "v9.9")  # a tag's name must not stand in for the commit
    return tmp_path


def test_the_environment_names_the_libraries_that_ran() -> None:
    here = environment(torch.device("cpu"))
    assert (here.torch, here.transformers, here.device) == (torch.__version__, transformers.__version__, "cpu")


def test_the_version_is_that_of_the_package() -> None:
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    assert project_version() == tomllib.loads(pyproject.read_text())["project"]["version"]


def test_the_git_sha_is_the_full_commit_of_the_checkout(checkout: Path) -> None:
    assert git_sha(checkout) == git(checkout, "rev-parse", "HEAD")


def test_a_changed_checkout_does_not_pass_for_its_commit(checkout: Path) -> None:
    (checkout / "file").write_text("two")
    assert git_sha(checkout) == git(checkout, "rev-parse", "HEAD") + "-dirty"


def test_a_package_installed_inside_another_repository_has_no_git_sha(checkout: Path) -> None:
    installed = checkout / "site-packages"
    installed.mkdir()
    assert git_sha(installed) is None


def test_a_repository_without_a_commit_or_a_machine_without_git_has_no_git_sha(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "-q")
    assert git_sha(empty) is None
    monkeypatch.setenv("PATH", str(tmp_path / "no-such-folder"))
    assert git_sha(checkout) is None
