"""``gates.json``: the verdict on a lens, checked against its copy in the provenance."""

from collections.abc import Mapping

from logos_pl.artifacts import json_codec
from logos_pl.artifacts.filenames import GATES_FILE, PROVENANCE_FILE
from logos_pl.artifacts.provenance import Provenance
from logos_pl.artifacts.verdict import Acceptance, Kpis
from logos_pl.errors import InputError
from logos_pl.io.parsing import parse_json

SCHEMA_VERSION = 1


def check_verdict(provenance: Provenance, files: Mapping[str, bytes]) -> None:
    """Check that the verdict in a provenance is the one in ``gates.json``, or that there is none in either.

    Args:
        provenance: Provenance of the lens.
        files: The artifact's files by name, compared with their hashes.

    Raises:
        InputError: ``gates.json`` is not a verdict, is for another model, or differs.
    """
    given = files.get(GATES_FILE)
    if given is None:
        if provenance.acceptance is not None or provenance.kpis is not None:
            raise InputError(f"{PROVENANCE_FILE} has a verdict of the gates, but there is no {GATES_FILE}: {_REMEDY}.")
        return
    acceptance, kpis = verdict_of(given, provenance.model_id, provenance.model_commit)
    if (acceptance, kpis) != (provenance.acceptance, provenance.kpis):
        raise InputError(f"{PROVENANCE_FILE} and {GATES_FILE} disagree on the verdict of the gates: {_REMEDY}.")


def verdict_of(data: bytes, model_id: str, model_commit: str) -> tuple[Acceptance, Kpis]:
    """Parse verdict and KPIs from ``gates.json``.

    Args:
        data: Contents of the file.
        model_id: Expected model.
        model_commit: Its expected commit.

    Raises:
        InputError: It is not a verdict, is for another model, or is inconsistent with its KPIs.
    """
    try:
        document = parse_json(data.decode(), GATES_FILE)
    except UnicodeDecodeError as error:
        raise InputError(f"{GATES_FILE} is not UTF-8 text: {_REMEDY}.") from error
    if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"{GATES_FILE} is not a verdict that this version of logos-pl reads: {_REMEDY}.")
    if document.get("model") != {"model_id": model_id, "model_commit": model_commit}:
        raise InputError(f"{GATES_FILE} is the verdict on a lens for another model than {model_id}: {_REMEDY}.")
    acceptance: Acceptance = json_codec.from_plain(Acceptance, document.get("acceptance"), f"{GATES_FILE}: acceptance")
    acceptance.refuse_nonsense(GATES_FILE)
    return acceptance, json_codec.from_plain(Kpis, document.get("kpis"), f"{GATES_FILE}: kpis")


_REMEDY = "test the lens again, or fetch it again"
