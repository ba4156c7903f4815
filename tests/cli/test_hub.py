"""Lenses published, listed, fetched, verified and used by the command line, over HTTP from a stand-in of the Hub."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from matplotlib.figure import Figure

from logos_pl import load_model, load_tuned_lens
from logos_pl.artifacts.prism import save_prism
from logos_pl.artifacts.tuned_lens import load_lenses
from logos_pl.cli.entry import main as run
from logos_pl.cli.hub import main
from logos_pl.errors import InputError
from logos_pl.hub.index import Index
from logos_pl.lenses.prism import PrismLens
from tests.artifacts.lenses import reseal
from tests.artifacts.prisms import make_map, prism_provenance
from tests.hub.publishing import (
    REPO,
    SMALL,
    TAG,
    TINY,
    UPLOADS,
    Made,
    checkpoints,
    hub,
    made,
    published,
    reindex,
    release,
)
from tests.hub.stand_in import WRITER, Hub
from tests.tiny import accepted, fit_arguments, make_corpus

__all__ = ["checkpoints", "hub", "made", "published", "release"]

pytestmark = UPLOADS


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def said(capsys: pytest.CaptureFixture[str], *args: str) -> list[str]:
    """The lines that a command prints, which has to succeed."""
    capsys.readouterr()
    assert main(args) == 0
    return capsys.readouterr().out.splitlines()


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str]:
    """Exit status and the one sentence on standard error."""
    capsys.readouterr()
    status = main(args)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("logos-pl: ")]
    return status, line.removeprefix("logos-pl: ")


def test_what_is_pushed_can_be_listed_pulled_and_verified(
    hub: Hub, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said(capsys, "push", "--repo_id", REPO, "--tag", TAG)
    commit = hub.repos[f"datasets/{REPO}"].commits[-1].oid
    assert lines[0] == ("note: org/small has no licence file, and states `apache-2.0`: nothing else is recorded.")
    assert f"release {TAG} of {REPO}:" in lines
    assert any(line.startswith(f"  tuned_lenses/{TINY}/weights.pt  (") for line in lines)
    assert lines[-1] == f"published: {REPO} at {TAG} (commit {commit})"

    header, small, tiny, where = said(capsys, "list", "--repo_id", REPO)
    assert header.split() == ["model", "version", "size", "gates", "model", "commit"]
    assert small.split()[:4] == [SMALL, "tuned", "lens", TAG]
    assert tiny.split()[-3:-1] == ["not", "evaluated"]
    assert where == f"{REPO} at commit {commit}; releases: {TAG}"

    lines = said(capsys, "pull", "--repo_id", REPO, "--models", TINY, "--revision", TAG, "--folder", "mine")
    assert lines[0].startswith(f"{TINY}: tuned lens {TAG}, ")
    assert lines[0].endswith(", in mine/tuned_lenses/tiny")
    assert load_lenses("mine/tuned_lenses/tiny").provenance.model_id == TINY

    assert said(capsys, "verify", "--repo_id", REPO) == [
        f"{SMALL}: tuned lens {TAG}: as published",
        f"{TINY}: tuned lens {TAG}: as published",
        f"2 of 2 in {REPO} are as published.",
    ]
    assert said(capsys, "push", "--repo_id", REPO)[-1] == f"nothing to publish: {REPO} is up to date"


def test_a_dry_run_leaves_a_folder_that_can_be_verified_and_indexed(
    hub: Hub, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said(capsys, "push", "--repo_id", REPO, "--tag", TAG, "--dry_run")
    assert lines[-1] == f"built and verified, nothing uploaded: checkpoints/hub/{REPO}"
    before = Path(f"checkpoints/hub/{REPO}/INDEX.json").read_bytes()
    assert (
        said(capsys, "verify", f"checkpoints/hub/{REPO}")[-1] == f"2 of 2 in checkpoints/hub/{REPO} are as published."
    )
    assert said(capsys, "index", f"checkpoints/hub/{REPO}")[-1] == f"index: checkpoints/hub/{REPO}/INDEX.json"
    assert Path(f"checkpoints/hub/{REPO}/INDEX.json").read_bytes() == before
    assert f"datasets/{REPO}" not in hub.repos


def test_verify_names_every_lens_that_is_not_as_published_and_ends_with_two(
    hub: Hub, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "push", "--repo_id", REPO, "--tag", TAG, "--dry_run")
    root = Path(f"checkpoints/hub/{REPO}")
    (root / "tuned_lenses" / TINY / "weights.pt").write_bytes(b"x")
    capsys.readouterr()
    assert main(["verify", str(root)]) == 2
    shown = capsys.readouterr()
    assert shown.out.splitlines()[0] == f"{SMALL}: tuned lens {TAG}: as published"
    assert shown.out.splitlines()[1].startswith(f"{TINY}: tuned lens {TAG}: REFUSED: checkpoints/hub/me/lenses/tuned_l")
    assert shown.err == f"logos-pl: 1 of 2 in {root} failed verification, for the reasons above.\n"
    assert said(capsys, "verify", str(root), "--models", SMALL)[-1] == f"1 of 1 in {root} are as published."


def test_weights_that_fit_their_hashes_and_are_no_weights_are_refused(
    hub: Hub, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "push", "--repo_id", REPO, "--tag", TAG, "--dry_run", "--models", TINY)
    root = Path(f"checkpoints/hub/{REPO}")
    folder = root / "tuned_lenses" / TINY
    (folder / "weights.pt").write_bytes(b"not a state dict")
    reseal(folder)
    assert main(["index", str(root)]) == 2
    assert "weights.pt is not a state dict of tensors only" in capsys.readouterr().err
    reindex(root, TINY)
    assert main(["verify", str(root)]) == 2
    assert "weights.pt is not a state dict of tensors only" in capsys.readouterr().out


def test_decoding_loads_the_model_of_the_index_and_its_failure_is_a_refusal(
    published: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    make_corpus(Path("corpus"))
    capsys.readouterr()
    # The lens is random: its last row is exact all the same, and it gains nothing.
    assert main(["verify", "--repo_id", REPO, "--models", TINY, "--decode", "--text", "corpus"]) == 2
    shown = capsys.readouterr()
    assert (
        f"{TINY}: tuned lens {TAG}: REFUSED: {TINY} does not decode as expected: row 4 exact, median gain" in shown.out
    )
    assert shown.err.endswith("logos-pl: 1 of 1 in me/lenses failed verification, for the reasons above.\n")


def test_a_prism_is_decoded_too_and_may_lose_to_the_norm_lens_but_not_change_the_last_row(
    hub: Hub, checkpoints: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_corpus(Path("corpus"))
    save_prism(checkpoints / "prisms" / "tiny", make_map(), prism_provenance(load_model(TINY)))
    said(capsys, "push", "--repo_id", REPO, "--tag", TAG, "--dry_run", "--folder", str(checkpoints))
    command = ["verify", f"{checkpoints}/hub/{REPO}", "--models", TINY, "--decode", "--text", "corpus"]
    assert main(command) == 2, "the tuned lens is random"
    assert f"{TINY}: Prism {TAG}: as published; row 4 exact, median gain over" in capsys.readouterr().out

    real = PrismLens.logits
    monkeypatch.setattr(PrismLens, "logits", lambda *given: real(*given) + 1)
    assert main(command) == 2
    shown = capsys.readouterr().out
    assert f"{TINY}: Prism {TAG}: REFUSED: {TINY} does not decode as expected: row 4 differs" in shown


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ([], "Say what to do: `logos-pl hub push`, `pull`, `index`, `verify` or `list`."),
        (["steal"], "see `logos-pl hub --help`."),
        (["list", "--repo_id", ""], "--repo_id is empty: give a value, or leave it out."),
        (["list", "--repo_id", "[" * 100_000], "is nested deeper than 64 levels in line 1: make it flatter."),
        (["index", "a\0b"], "--dir contains a NUL character: remove it."),
        (["list"], "--repo_id is missing: see `logos-pl hub --help`."),
        (["list", "--repo", REPO], "see `logos-pl hub --help`."),
        (["pull", "--repo_id", REPO], "Say what to pull: --models with ids, or --all."),
        (["pull", "--repo_id", REPO, "--all", "--models", TINY], "Say what to pull: --models with ids, or --all."),
        (["verify"], "Say what to verify: a folder, or --repo_id with a repository on the Hub."),
        (
            ["verify", ".", "--repo_id", REPO],
            "Say what to verify: a folder, or --repo_id with a repository on the Hub.",
        ),
        (["verify", ".", "--revision", TAG], "--revision is for a repository on the Hub: leave it out for a folder."),
        (["verify", "nowhere"], "or make it with `logos-pl hub index`."),
        (["index", "nowhere"], "nowhere is not a folder: give one in the layout of the Hub."),
        (["index", ".", "--tag", "newest"], "or v2026.01.31.1 for a second that day."),
        (["push", "--repo_id", REPO], "fit one, or give another --folder."),
        (["list", "--repo_id", "me/nothing"], "or log in with `hf auth login` if it is private."),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_status_two(
    hub: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, args: list[str], sentence: str
) -> None:
    monkeypatch.setattr("logos_pl.hub.layout.today", lambda: TAG)
    status, line = refused(capsys, *args)
    assert (status, line[-len(sentence) :]) == (2, sentence)


def test_to_list_a_repository_takes_neither_torch_nor_lightning_and_the_command_is_found(published: Hub) -> None:
    code = (
        "import sys; from logos_pl.__main__ import main; sys.argv[1:] = ['hub', 'list', '--repo_id', 'me/lenses'];"
        "status = main(); print(status, [m for m in ('torch', 'lightning', 'transformers') if m in sys.modules])"
    )
    settings = {"HF_ENDPOINT": published.url, "HF_HOME": str(Path("home").resolve()), "HF_TOKEN": WRITER}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | settings
    )
    assert done.stdout.splitlines()[-1] == "0 []"
    assert TINY in done.stdout
    assert done.stderr == ""


def test_an_index_of_nothing_is_not_as_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "INDEX.json").write_text(Index(TAG).to_json())
    assert refused(capsys, "verify", ".") == (2, ". holds no lens.")


def test_without_a_network_a_repository_is_listed_from_the_cache(
    published: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    online = said(capsys, "list", "--repo_id", REPO)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    offline = said(capsys, "list", "--repo_id", REPO)
    assert offline[:-1] == online[:-1]
    assert (
        f"releases: not known. {REPO} is not, or not completely, in the local cache, and offline mode is on"
        in offline[-1]
    )


def test_a_published_lens_is_one_line_of_python(published: Hub, made: Made) -> None:
    lens, provenance = load_tuned_lens(REPO, model_id=TINY, revision=TAG)
    assert provenance.model_id == TINY
    lm = load_model(TINY, device="cpu")
    bound, again = load_tuned_lens(REPO, lm, revision=TAG)
    assert bound.head.num_rows == 5
    assert again == provenance
    local, _ = load_tuned_lens(made.checkpoints / "tuned_lenses" / "tiny", lm)
    for one, two in zip(local.translators.parameters(), lens.translators.parameters(), strict=True):
        assert torch.equal(one, two)
    with pytest.raises(InputError, match="The lens was trained for org/small, not for org/tiny"):
        load_tuned_lens(REPO, lm, model_id=SMALL)
    with pytest.raises(InputError, match="tiny holds the lens of org/tiny, not of org/small"):
        load_tuned_lens(made.checkpoints / "tuned_lenses" / "tiny", model_id=SMALL)


def test_the_quick_start_on_the_published_card_runs(published: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    card = published.files(REPO)[f"tuned_lenses/{TINY}/README.md"].decode()
    assert f"| Lens version | {TAG} of `{REPO}` |" in card
    capsys.readouterr()
    exec(compile(card.split("```python\n")[1].split("```")[0], "card", "exec"), {})
    assert capsys.readouterr().out.strip() != ""


def test_a_sweep_and_the_gates_read_a_published_lens_and_leave_the_cache_as_it_is(
    published: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("rows_figure", "gains_figure"):  # blank ones: they take longer than all the rest
        monkeypatch.setattr(f"logos_pl.gates.writer.{name}", lambda *given: Figure(figsize=(1, 1)))
    corpus = make_corpus(tmp_path / "corpus")
    options = {"lens.source": REPO, "lens.revision": TAG, "data.held_out_frac": 0.02}
    arguments = fit_arguments(Path(TINY), corpus, tmp_path, **options)
    assert run([*accepted("predict", arguments), "--data.prompt=sun moon", "--sweep.tuned=require"]) == 0
    document = json.loads((tmp_path / "lightning_logs/sweeps/run-latest/output-tiny.json").read_text())
    assert document["run"]["lenses"] == ["norm", "tuned"]
    assert document["tuned_lens"]["provenance"]["rank_k"] == 4

    before = load_tuned_lens(REPO, model_id=TINY, revision=TAG)[1]
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        "facts:\n- {id: one, prompt: sun moon, answer: river}\n- {id: two, prompt: sea hill, answer: star}\n"
    )
    assert run([*accepted("test", arguments), f"--data.suite={suite}"]) == 3
    assert "verdict: lightning_logs/tiny/gates/gates.json" in capsys.readouterr().out
    assert (tmp_path / "lightning_logs" / "tiny" / "gates" / "gates.json").is_file()
    assert load_tuned_lens(REPO, model_id=TINY, revision=TAG)[1] == before
    assert not (tmp_path / "lenses").exists()


@pytest.mark.parametrize(
    ("command", "options", "sentence"),
    [
        ("predict", {"lens.revision": TAG}, "--lens.revision needs a repository on the Hub: give it with --lens.so"),
        (
            "test",
            {"lens.source": REPO, "ckpt_path": "last"},
            "--lens.source and --ckpt_path cannot be combined: give one",
        ),
        ("predict", {"lens.source": "me/none"}, "There is no folder and no data set on the Hub called me/none"),
        ("predict", {"lens.source": REPO, "lens.revision": "v2020.01.01"}, "me/lenses has no revision 'v2020.01.01'"),
    ],
)
def test_a_lens_that_cannot_be_read_is_refused_before_the_model_is_loaded(
    published: Hub,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    options: dict[str, str],
    sentence: str,
) -> None:
    def must_not_load(*args: object, **kwargs: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("logos_pl.modules.base.FrozenLM.load", must_not_load)
    assert run(accepted(command, fit_arguments(Path(TINY), Path("corpus"), tmp_path, **options))) == 2
    assert sentence in capsys.readouterr().err
