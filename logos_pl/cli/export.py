"""`logos-pl export`: write a Jacobian lens in a format that other packages read."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from logos_pl.cli.own_parser import OwnParser, importing, run_own
from logos_pl.demo import DEMO
from logos_pl.errors import InputError, RunError
from logos_pl.io.terminal import say

FORMATS = {
    "transformer_lens": "one file, read by TransformerLens and by the reference implementation of Jacobian lenses",
    "tuned_lens": "a folder, read by the tuned-lens package",
}
BEHIND_THE_NORM = {
    "weights.pt": "a tuned lens, whose maps and temperatures apply",
    "rotation.pt": "a Prism lens, whose map applies",
}
"""Our lenses that no other format can hold, by a file in their folder."""


def main(args: Sequence[str]) -> int:
    """Run the command.

    Args:
        args: Arguments after `logos-pl export`.

    Returns:
        Exit status: 0, 1 for a failure, 2 for bad input, 130 after Ctrl-C.
    """
    return run_own(lambda: _run(command_parser().checked(list(args))), "Interrupted; nothing was written.")


def command_parser() -> OwnParser:
    """Parser of the command."""
    parser = OwnParser("export", "formats:\n" + "\n".join(f"  {name}: {what}" for name, what in FORMATS.items()))
    parser.add_argument("lens", help="folder of the lens, such as checkpoints/jacobians/MODEL")
    parser.add_argument("out", help="file or folder to write; it must not exist")
    parser.add_argument("--to", required=True, choices=sorted(FORMATS), help="format to write")
    parser.add_argument(
        "--model", help="folder or Hub id of the model, which tuned_lens needs; default: that of the lens"
    )
    return parser


def _run(given: argparse.Namespace) -> None:
    """Read the lens, and write it.

    Raises:
        InputError: The lens cannot be read or the format cannot hold it, or the destination exists.
        RunError: The disk fails.
    """
    lens, out = Path(given.lens).expanduser(), Path(given.out).expanduser()
    if os.path.lexists(out):
        raise InputError(f"{os.path.relpath(out)} already exists: give another name, or remove it.")
    _refuse_behind_the_norm(lens, given.to)
    with importing():
        from logos_pl.artifacts.foreign_format import transformer_lens_file, tuned_lens_files
        from logos_pl.artifacts.jacobian import load_jacobian, read_jacobian
        from logos_pl.artifacts.store import replace_folder
        from logos_pl.io.files import make_folders, replace_file
        from logos_pl.lm.load_model import load_model
    jacobians, provenance = read_jacobian(lens)
    last = len(jacobians) - 1
    if given.to == "transformer_lens":
        try:
            make_folders(out.parent)
            replace_file(out, transformer_lens_file(jacobians, provenance))
        except OSError as error:
            raise RunError(f"{os.path.relpath(out)} cannot be written: {error.strerror}.") from error
        held = f"rows 1 to {last} as blocks 0 to {last - 1}; the format has no place for row 0"
    else:
        if (loaded := provenance.fingerprint.loaded_as) is not None:
            raise InputError(
                f"{os.path.relpath(lens)} was fitted on {loaded.words()}, but tuned_lens can only name a model of "
                "plain weights: give --to transformer_lens."
            )
        local = "/" not in provenance.model_id and provenance.model_id != DEMO
        if local and given.model is None:
            raise InputError(f"{provenance.model_id} is a local model: give its folder as --model.")
        commit = None if local or given.model is not None else provenance.model_commit
        lm = load_model(given.model or provenance.model_id, revision=None if commit == "unknown" else commit)
        load_jacobian(lens, lm)  # raises if it is another model
        replace_folder(out, tuned_lens_files(jacobians, provenance, lm))
        held = f"rows 0 to {last}, as W = J − 1 in float32"
    say(f"{given.to}: {os.path.relpath(out)} ({held})")


def _refuse_behind_the_norm(lens: Path, wanted: str) -> None:
    for name, what in BEHIND_THE_NORM.items():
        if (lens / name).is_file():
            raise InputError(
                f"{os.path.relpath(lens)} holds {what} after the final norm, but {wanted} holds linear maps that apply "
                "before it, and the norm is not linear: only a Jacobian lens can be exported."
            )
