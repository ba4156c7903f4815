"""``precond.pt``: the whitened basis that a tuned lens's U and V are written in."""

from collections.abc import Mapping

from logos_pl.artifacts.groups import Preconditioner
from logos_pl.artifacts.names import PRECOND_FILE
from logos_pl.artifacts.provenance import Provenance
from logos_pl.artifacts.weights import decode, encode
from logos_pl.errors import InputError
from logos_pl.functional.whitening import Whitening

OF_A_PRISM = Preconditioner(type="prism", path=PRECOND_FILE)


def precond_record(basis: Whitening | None) -> Preconditioner | None:
    """What the provenance says of it; None without one."""
    return None if basis is None else OF_A_PRISM


def precond_files(basis: Whitening | None) -> dict[str, bytes | memoryview]:
    """Its file by name; none without one."""
    if basis is None:
        return {}
    return {PRECOND_FILE: encode({name: part.cpu().contiguous() for name, part in basis._asdict().items()})}


def basis_of(files: Mapping[str, bytes], provenance: Provenance, d_model: int) -> Whitening | None:
    """The basis in an artifact's verified files; None where the lens has none.

    Args:
        files: Contents by name.
        provenance: The lens's.
        d_model: Width of the lens.

    Raises:
        InputError: It is of a kind that this version does not know, or not a finite map of the lens's width and its
            inverse.
    """
    recorded = provenance.preconditioner
    if recorded is None:
        return None
    if recorded != OF_A_PRISM:
        raise InputError(
            f"The lens is written in the basis of {recorded.path}, of type {recorded.type}, which this version of "
            "logos-pl does not know: use the version that wrote it."
        )
    parts = decode(files[PRECOND_FILE], PRECOND_FILE)
    shapes = {name: tuple(part.shape) for name, part in parts.items()}
    wanted = [dict.fromkeys(Whitening._fields, shape) for shape in ((d_model,), (d_model, d_model))]
    if shapes not in wanted or not all(bool(part.isfinite().all()) for part in parts.values()):
        raise InputError(
            f"{PRECOND_FILE} holds {shapes}, and a lens of width {d_model} needs a finite map and its inverse of that "
            "width: fetch the artifact again."
        )
    return Whitening(**parts)
