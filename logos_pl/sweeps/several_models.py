"""Files of a sweep over several models: their comparison, and documents of skipped models."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from logos_pl.artifacts.environment import git_sha, project_version
from logos_pl.io.files import replace_file
from logos_pl.lm.sources import clean_name, folder_name, split_revision
from logos_pl.sweeps.cross_report import cross_model_report
from logos_pl.sweeps.document import skipped_output, to_json
from logos_pl.sweeps.document_schema import ModelIdentity, RunFacts
from logos_pl.sweeps.filenames import CROSS_REPORT
from logos_pl.sweeps.folder import SweepFolder
from logos_pl.sweeps.report_input import ReportInput


def write_cross_report(folder: SweepFolder, reports: Sequence[ReportInput]) -> Path:
    """Write the comparison of several models; returns its path.

    Raises:
        OSError: A file cannot be written.
    """
    path = folder.path / CROSS_REPORT
    replace_file(path, cross_model_report(reports).encode())
    return path


def record_skips(folder: SweepFolder, skipped: Sequence[tuple[str, str]]) -> None:
    """Write the documents of skipped models, given with the reasons.

    Raises:
        OSError: A file cannot be written.
    """
    for model, reason in skipped:
        _record_skip(folder, model, reason)


def _record_skip(folder: SweepFolder, model: str, reason: str) -> None:
    now, (model_id, revision) = datetime.now(UTC), split_revision(model)
    is_path = model_id.startswith(("/", "~", ".")) or Path(model_id).exists()
    name = folder_name(model_id, revision)
    identity = ModelIdentity(clean_name(model_id) if is_path else model_id, name, None, None)
    facts = RunFacts(now, now, project_version(), git_sha(), None, None, None, None)
    path = folder.path / f"output-{name}.json"
    if not path.exists():  # a sweep that had started has recorded more
        replace_file(path, to_json(skipped_output(identity, facts, reason)).encode())
