"""Publish, fetch and verify lenses on the Hub: `logos-pl hub push | pull | index | verify | list`."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub.utils import disable_progress_bars
from jsonargparse import ArgumentParser, Namespace

from logos_pl.cli.configuration import check_arguments, check_settings, expand_home, guard_values
from logos_pl.cli.error_messages import one_sentence
from logos_pl.cli.hub_table import print_index
from logos_pl.cli.own_parser import run_own
from logos_pl.demo import DEMO
from logos_pl.errors import InputError, LogosError
from logos_pl.hub.index import Index, read_index
from logos_pl.hub.layout import INDEX_FILE, WORDS, Kind, check_tag, today
from logos_pl.hub.pull import fetch_artifact, fetch_licences, open_repository, pull, releases, select
from logos_pl.hub.verify import artifact_files, check_licences, refuse_foreign_files
from logos_pl.io.files import replace_file
from logos_pl.io.terminal import say
from logos_pl.lm.sources import locate

MODELS_HELP = "Hub ids or local folders of the models"


class HubParser(ArgumentParser):
    """Parser; an error is one sentence."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Raise the parser's error in one sentence.

        Raises:
            InputError: Always.
        """
        plain = re.sub(r"\b(?:push|pull|index|verify|list)\.(?=\w)", "--", message)
        raise InputError(one_sentence(plain, "`logos-pl hub --help`")) from ex


def main(args: Sequence[str]) -> int:
    """Run one of the commands.

    Args:
        args: Arguments after `logos-pl hub`.

    Returns:
        Exit status: 0, 1 for a failure, 2 for bad input, 130 after Ctrl-C.
    """
    if not sys.stderr.isatty():
        disable_progress_bars()
    return run_own(lambda: _run(args), "Interrupted; no file is incomplete, and the command can be run again.")


def _run(args: Sequence[str]) -> None:
    """Parse the arguments and run the command.

    Raises:
        InputError: The command is missing, or an argument cannot be used.
    """
    if not args:
        raise InputError("Say what to do: `logos-pl hub push`, `pull`, `index`, `verify` or `list`.")
    guard_values()
    check_arguments(args, ())
    given = hub_parser().parse_args(list(args))
    settings = given[given.subcommand]
    check_settings(settings.items(), {})
    expand_home(settings)
    COMMANDS[given.subcommand](settings)


def hub_parser() -> HubParser:
    """Parser of all hub commands."""
    parser = HubParser(prog="logos-pl hub", description=__doc__, allow_abbrev=False)
    commands = parser.add_subcommands()
    for name, does, where in (
        ("push", "publish lenses as a release", "repo"),
        ("pull", "fetch lenses into the checkpoint folder", "repo"),
        ("index", f"write {INDEX_FILE} for a folder laid out as on the Hub", "folder"),
        ("verify", "compare every file of a folder or repository with its index", "either"),
        ("list", "list the lenses of a repository; downloads only its index", "repo"),
    ):
        command = HubParser(description=f"{does[0].upper()}{does[1:]}.", allow_abbrev=False)
        if where in ("folder", "either"):
            command.add_argument("dir", type=str, nargs="?" if where == "either" else None, help="the folder")
        if where in ("repo", "either"):
            command.add_argument("--repo_id", type=str, required=where == "repo", help="organisation/name on the Hub")
        OPTIONS[name](command)
        commands.add_subcommand(name, command, help=does)
    return parser


def _push_options(command: HubParser) -> None:
    command.add_argument("--models", nargs="+", type=str, help=f"{MODELS_HELP}; default: all")
    command.add_argument("--tag", type=str, help="tag of the release, vYYYY.MM.DD; default: today's first free one")
    command.add_argument("--private", action="store_true", help="make a newly created repository private")
    command.add_argument("--dry_run", action="store_true", help="build and verify the release without uploading it")
    command.add_argument("--folder", type=str, default="checkpoints", help="checkpoint folder")


def _pull_options(command: HubParser) -> None:
    command.add_argument("--models", nargs="+", type=str, help="Hub ids of the models whose lenses to fetch")
    command.add_argument("--all", action="store_true", help="fetch the lenses of all models")
    _revision_option(command)
    command.add_argument("--replace", action="store_true", help="replace other lenses of these models")
    command.add_argument("--folder", type=str, default="checkpoints", help="checkpoint folder")


def _index_options(command: HubParser) -> None:
    command.add_argument("--tag", type=str, help="release of new or changed lenses; default: today's date")


def _verify_options(command: HubParser) -> None:
    command.add_argument("--models", nargs="+", type=str, help=f"{MODELS_HELP}; default: all")
    _revision_option(command)
    command.add_argument("--decode", action="store_true", help="also load each model and decode random rows of text")
    command.add_argument("--text", type=str, default=DEMO, help="text for --decode: Hub id, local folder or file")


def _revision_option(command: HubParser) -> None:
    command.add_argument("--revision", type=str, help="release, branch or commit; default: main")


OPTIONS = {
    "push": _push_options,
    "pull": _pull_options,
    "index": _index_options,
    "verify": _verify_options,
    "list": _revision_option,
}


def _push(given: Namespace) -> None:
    from logos_pl.hub.push import plan_release, publish, refuse_without_login  # torch, matplotlib

    if not given.dry_run:
        refuse_without_login()
    models = None if given.models is None else dict(_named(model) for model in given.models)
    plan = plan_release(given.repo_id, Path(given.folder), models, given.tag, only_build=given.dry_run)
    if not plan.published.is_known:
        say("note: the Hub cannot be reached; the release is built as if the repository were empty.")
    for found in plan.licences.values():
        if found.remark is not None:
            say(f"note: {found.remark}")
    for artifact in plan.staged.unchanged:
        version = _version(plan.staged.index, artifact.kind, artifact.model_id)
        say(f"{artifact.model_id}: {WORDS[artifact.kind]} unchanged since {version}")
    if plan.changes:
        say(f"release {plan.release.version} of {given.repo_id}:")
        for path in plan.additions:
            say(f"  {path}  ({(plan.folder / path).stat().st_size:,} bytes)")
        for path in plan.staged.deleted:
            say(f"  {path}  (removed)")
    if given.dry_run:
        say(f"built and verified, nothing uploaded: {os.path.relpath(plan.folder)}")
        return
    unfinished = plan.published.unfinished
    commit = publish(plan, given.private)
    if unfinished is not None:
        say(f"finished the interrupted release {unfinished}")
    if plan.changes:
        say(f"published: {given.repo_id} at {plan.release.version} (commit {commit})")
    elif unfinished is None:
        say(f"nothing to publish: {given.repo_id} is up to date")


def _pull(given: Namespace) -> None:
    if bool(given.models) == bool(given.all):
        raise InputError("Say what to pull: --models with ids, or --all.")
    snapshot, count = open_repository(given.repo_id, given.revision), 0
    for lens in pull(snapshot, given.models, Path(given.folder), given.replace):
        count += 1
        state = "" if lens.is_new else ", unchanged"
        say(
            f"{lens.model_id}: {WORDS[lens.kind]} {lens.entry.tl_version}, {lens.entry.size}, in "
            f"{os.path.relpath(lens.folder)}{state}"
        )
    say(f"verified: {count} of {given.repo_id} at commit {snapshot.commit}")


def _index(given: Namespace) -> None:
    from logos_pl.hub.indexing import index_folder

    root = Path(given.dir)
    tag = today() if given.tag is None else check_tag(given.tag)
    if not root.is_dir():
        raise InputError(f"{given.dir} is not a folder: give one in the layout of the Hub.")
    index = index_folder(root, tag)
    replace_file(root / INDEX_FILE, index.to_json().encode())
    print_index(index)
    say(f"index: {os.path.relpath(root / INDEX_FILE)}")


def _list(given: Namespace) -> None:
    snapshot = open_repository(given.repo_id, given.revision)
    print_index(snapshot.index)
    try:
        tags = ", ".join(releases(given.repo_id)) or "none"
    except LogosError as error:  # the index may come from the cache, tags cannot
        tags = f"not known. {error}"
    say(f"{given.repo_id} at commit {snapshot.commit}; releases: {tags}")


def _verify(given: Namespace) -> None:
    if (given.dir is None) == (given.repo_id is None):
        raise InputError("Say what to verify: a folder, or --repo_id with a repository on the Hub.")
    if given.dir is not None and given.revision is not None:
        raise InputError("--revision is for a repository on the Hub: leave it out for a folder.")
    places = dict(_named(model) for model in given.models or ())
    where = given.dir or given.repo_id
    snapshot = None if given.repo_id is None else open_repository(given.repo_id, given.revision)
    root = Path(given.dir) if snapshot is None else snapshot.root
    index = read_index(root) if snapshot is None else snapshot.index
    wanted = select(index, list(places) if given.models else None, where)
    if snapshot is not None:
        fetch_licences(snapshot, [model_id for _, model_id in wanted])
    check_licences(root, index, [model_id for _, model_id in wanted], None if snapshot is None else snapshot.cache)
    if snapshot is None and not given.models:
        refuse_foreign_files(root, index)
    refused = 0
    for kind, model_id in wanted:
        try:
            if snapshot is not None:
                fetch_artifact(snapshot, kind, model_id)
            else:
                artifact_files(root, kind, model_id, index.entries(kind)[model_id])
            folder = root / index.entries(kind)[model_id].path
            found = "as published" + _loads(kind, folder, model_id, places.get(model_id), given)
        except InputError as error:
            refused += 1
            found = f"REFUSED: {error}"
        say(f"{model_id}: {WORDS[kind]} {_version(index, kind, model_id)}: {found}")
    if refused:
        raise InputError(f"{refused} of {len(wanted)} in {where} failed verification, for the reasons above.")
    say(f"{len(wanted)} of {len(wanted)} in {where} are as published.")


def _loads(kind: Kind, folder: Path, model_id: str, place: str | None, given: Namespace) -> str:
    """Load a lens and describe it; with `--decode`, also decode with its model.

    Raises:
        InputError: It cannot be loaded, or does not decode as expected.
    """
    from logos_pl.hub.reading import load_bound, read_alone  # torch

    provenance = read_alone(kind, folder)
    if not given.decode:
        return ""
    from logos_pl.api import load_model
    from logos_pl.hub.decode import decode_check, held_out_documents

    if (loaded := provenance.fingerprint.loaded_as) is not None:
        raise InputError(
            f"the lens of {model_id} was fitted on {loaded.words()}, which --decode does not load: verify it without "
            "--decode."
        )
    if "/" not in model_id and place is None and model_id != DEMO:
        raise InputError(f"{model_id} is a local model: give its folder in --models to decode with it.")
    lm = load_model(place or model_id, revision=provenance.model_commit if "/" in model_id else None)
    documents = held_out_documents(given.text, provenance.dataset.held_out_frac)
    check = decode_check(lm, load_bound(kind, folder, lm), documents, getattr(provenance, "seed", 0))
    exact = "exact" if check.is_exact else f"differs in {check.differing_logits} logits"
    found = (
        f"row {lm.num_blocks} {exact}, median gain over the norm lens {check.median_gain_bits:.3f} bits at "
        f"{check.num_pairs} random rows and positions of {check.num_documents} documents"
    )
    # Only a tuned lens is fitted to be closer to the model than the norm lens at every row.
    if not (check.is_exact and (check.gains or kind != "tuned_lenses")):
        raise InputError(f"{model_id} does not decode as expected: {found}.")
    return f"; {found}"


COMMANDS = {"push": _push, "pull": _pull, "index": _index, "verify": _verify, "list": _list}


def _named(model: str) -> tuple[str, str | None]:
    """Id of a model and, for a local model, its folder."""
    if model == DEMO or Path(model).expanduser().is_dir():
        return locate(model).model_id, model
    return model, None


def _version(index: Index, kind: Kind, model_id: str) -> str:
    return index.entries(kind)[model_id].tl_version
