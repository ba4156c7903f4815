"""Fetching over real HTTP: only what is asked for, verified, whole or not at all."""

import errno
import hashlib
from pathlib import Path

import pytest
from huggingface_hub import constants

from logos_pl.errors import InputError, RunError
from logos_pl.hub.pull import Pulled, Snapshot, fetch_artifact, open_repository, pull, releases
from logos_pl.hub.push import plan_release, publish
from tests.artifacts.lenses import contents
from tests.hub.publishing import REPO, SMALL, TAG, TINY, UPLOADS
from tests.hub.stand_in import Hub
from tests.hub.test_push import change_lens

pytestmark = UPLOADS


def pulled(
    repo_id: str, models: list[str] | None, revision: str | None, folder: Path, replace: bool
) -> tuple[Snapshot, list[Pulled]]:
    snapshot = open_repository(repo_id, revision)
    return snapshot, list(pull(snapshot, models, folder, replace))


def published_files(hub: Hub, model: str) -> dict[str, bytes]:
    folder = f"tuned_lenses/{model}/"
    return {path.removeprefix(folder): data for path, data in hub.files(REPO).items() if path.startswith(folder)}


def test_a_pulled_lens_is_the_published_one_where_every_command_looks_for_it(published: Hub, tmp_path: Path) -> None:
    snapshot, lenses = pulled(REPO, [TINY], TAG, tmp_path / "mine", replace=False)
    assert [(lens.model_id, lens.folder, lens.is_new) for lens in lenses] == [
        (TINY, tmp_path / "mine" / "tuned_lenses" / "tiny", True)
    ]
    assert contents(lenses[0].folder) == published_files(published, TINY)
    assert snapshot.commit == published.repos[f"datasets/{REPO}"].tags[TAG]


def test_pulling_one_model_asks_for_its_files_alone(published: Hub, tmp_path: Path) -> None:
    pulled(REPO, [TINY], None, tmp_path / "mine", replace=False)
    wanted = {f"tuned_lenses/{TINY}/{name}" for name in published_files(published, TINY)}
    assert published.fetched() == {"INDEX.json"} | wanted
    sent = [path.removeprefix("/storage/") for method, path in published.requests if path.startswith("/storage/")]
    theirs = {hashlib.sha256(data).hexdigest() for data in published_files(published, TINY).values()}
    assert set(sent) <= theirs


def test_pulling_again_fetches_nothing_but_the_index(published: Hub, tmp_path: Path) -> None:
    pulled(REPO, None, None, tmp_path / "mine", replace=False)
    published.requests.clear()
    _, lenses = pulled(REPO, None, None, tmp_path / "mine", replace=False)
    assert [lens.is_new for lens in lenses] == [False, False]
    assert published.fetched() == {"INDEX.json"}


def test_an_earlier_release_is_what_it_was(published: Hub, checkpoints: Path, tmp_path: Path) -> None:
    before = published_files(published, SMALL)
    change_lens(checkpoints, "small")
    publish(plan_release(REPO, checkpoints, None, f"{TAG}.1"), private=False)
    assert published_files(published, SMALL) != before

    _, (old,) = pulled(REPO, [SMALL], TAG, tmp_path / "old", replace=False)
    _, (new,) = pulled(REPO, [SMALL], None, tmp_path / "new", replace=False)
    assert contents(old.folder) == before
    assert contents(new.folder) == published_files(published, SMALL)
    assert releases(REPO) == [TAG, f"{TAG}.1"]


def test_a_download_that_is_cut_off_goes_on_where_it_stopped(
    published: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 256)  # what is kept of a broken download is whole chunks
    published.cut_downloads = 2
    _, (lens,) = pulled(REPO, [TINY], None, tmp_path / "mine", replace=False)
    assert contents(lens.folder) == published_files(published, TINY)
    assert published.resumed == 2


def test_a_download_that_breaks_is_reported_with_nothing_half_written(published: Hub, tmp_path: Path) -> None:
    published.cut_downloads = 10_000
    with pytest.raises(InputError, match="cannot be reached: check the network and run the same command again"):
        pulled(REPO, [TINY], None, tmp_path / "mine", replace=False)
    assert not (tmp_path / "mine").exists()

    published.cut_downloads = 0
    _, (lens,) = pulled(REPO, [TINY], None, tmp_path / "mine", replace=False)
    assert contents(lens.folder) == published_files(published, TINY)


def test_what_arrives_altered_is_refused_and_not_written(published: Hub, tmp_path: Path) -> None:
    files = published.files(REPO)
    path = f"tuned_lenses/{TINY}/NOTICE"
    published.repos[f"datasets/{REPO}"].commit(files | {path: files[path] + b"?"})
    with pytest.raises(InputError, match="NOTICE was altered: its sha256 is"):
        pulled(REPO, [TINY], None, tmp_path / "mine", replace=False)
    assert not (tmp_path / "mine").exists()
    pulled(REPO, [TINY], TAG, tmp_path / "mine", replace=False)  # the release is what it was


def test_a_file_that_the_index_names_and_the_repository_lacks_is_named(published: Hub, tmp_path: Path) -> None:
    files = dict(published.files(REPO))
    del files[f"tuned_lenses/{TINY}/weights.pt"]
    published.repos[f"datasets/{REPO}"].commit(files)
    with pytest.raises(InputError, match=r"tuned_lenses/org/tiny/weights\.pt is not in me/lenses, although its INDEX"):
        pulled(REPO, [TINY], None, tmp_path / "mine", replace=False)


def test_a_lens_of_ones_own_is_replaced_only_when_told_so(published: Hub, checkpoints: Path) -> None:
    own = contents(checkpoints / "tuned_lenses" / "tiny")
    with pytest.raises(
        InputError, match=r"holds another tuned lens of org/tiny than v2026\.01\.31, yours or from anot"
    ):
        pulled(REPO, [TINY], None, checkpoints, replace=False)
    assert contents(checkpoints / "tuned_lenses" / "tiny") == own
    assert published.fetched() == {"INDEX.json"}  # found out before anything came

    pulled(REPO, [TINY], None, checkpoints, replace=True)
    assert contents(checkpoints / "tuned_lenses" / "tiny") == published_files(published, TINY)


def test_the_place_of_another_model_or_of_something_else_is_not_taken(published: Hub, checkpoints: Path) -> None:
    lenses = checkpoints / "tuned_lenses"
    (lenses / "tiny").rename(lenses / "aside")
    (lenses / "small").rename(lenses / "tiny")
    with pytest.raises(InputError, match="tiny holds the tuned lens of org/small, not of org/tiny"):
        pulled(REPO, [TINY], None, checkpoints, replace=True)
    (lenses / "small").mkdir()
    (lenses / "small" / "diary.txt").write_text("mine")
    with pytest.raises(InputError, match="small exists and is not a tuned lens: move it away"):
        pulled(REPO, [SMALL], None, checkpoints, replace=True)


def test_without_a_network_the_cache_serves_what_was_fetched_and_names_what_was_not(
    published: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled(REPO, [TINY], TAG, tmp_path / "one", replace=False)
    for offline, sentence in ((False, "cannot be reached"), (True, "offline mode is on")):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
        )
        again = fetch_artifact(open_repository(REPO, TAG), "tuned_lenses", TINY)
        assert again == published_files(published, TINY)
        with pytest.raises(
            InputError, match=f"me/lenses is not, or not completely, in the local cache, and .*{sentence}"
        ):
            fetch_artifact(open_repository(REPO, TAG), "tuned_lenses", SMALL)


@pytest.mark.parametrize(
    ("repo_id", "revision", "sentence"),
    [
        ("me/nothing", None, "There is no folder and no data set on the Hub called me/nothing"),
        (REPO, "v2020.01.01", "me/lenses has no revision 'v2020.01.01': `logos-pl hub list` shows"),
        ("org/gated", None, "org/gated is gated and this machine has no access: accept its terms"),
        ("org/text", None, "org/text has no INDEX.json, so it is not a repository of lenses."),
        ("not a repo", None, "'not a repo' is not the id of a repository"),
    ],
)
def test_what_is_not_there_is_said_in_one_sentence(
    published: Hub, repo_id: str, revision: str | None, sentence: str
) -> None:
    with pytest.raises(InputError) as refusal:
        open_repository(repo_id, revision)
    assert str(refusal.value).startswith(sentence)
    assert "\n" not in str(refusal.value)


def test_a_forged_token_is_named_when_reading_too(published: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_forged")
    with pytest.raises(InputError, match="The Hub does not accept this machine's token"):
        open_repository(REPO)


def test_a_private_repository_is_not_there_without_a_token(published: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    published.repos[f"datasets/{REPO}"].private = True
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(InputError, match="or log in with `hf auth login` if it is private"):
        open_repository(REPO)


def test_a_full_disk_is_one_sentence(published: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.os.makedirs", refuse)
    with pytest.raises(
        RunError, match="The disk is full, so me/lenses cannot be fetched: free space, or point HF_HOME"
    ):
        open_repository(REPO)


def test_a_model_that_has_no_lens_is_answered_with_those_that_have(published: Hub, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="me/lenses has no tuned lens of org/none; it has: org/small, org/tiny"):
        pulled(REPO, [TINY, "org/none"], None, tmp_path / "mine", replace=False)
    assert not (tmp_path / "mine").exists()
