"""Imported lens: a published lens of the `tuned-lens` package."""

from functools import partial

from logos_pl.artifacts.tuned_lens_format import ImportedOrigin, find_imported_lens, load_imported_lens, read_config
from logos_pl.kinds.registry import LensKind, LensSection, register
from logos_pl.kinds.request import FoundLens, LensOptions, LensRequest, LoadedLens
from logos_pl.lenses.head import Head
from logos_pl.lm.frozen import FrozenLM


def find(request: LensRequest) -> FoundLens:
    """Find the imported lens, if one is given.

    Raises:
        InputError: The lens is missing or of another kind.
        RunError: The downloaded files cannot be written.
    """
    if request.source is None:
        return FoundLens(partial(_load, ""), there=False)
    read_config(find_imported_lens(request.source, request.model_id).config)
    return FoundLens(partial(_load, request.source))


def _load(source: str, lm: FrozenLM, head: Head) -> LoadedLens:
    lens, origin = load_imported_lens(source, lm, head)
    sentence = f"imported lens: trained for {origin.base_model} with the tuned-lens package"
    return LoadedLens({"imported": lens}, origin, identity=origin.params_sha256, sentence=sentence)


def _describe(origin: ImportedOrigin | None) -> dict[str, object] | None:
    return None if origin is None else origin._asdict()


IMPORTED = register(
    LensKind(
        name="imported",
        label="imported lens",
        colour="tab:green",
        first_row=0,
        find=find,
        evaluated=True,
        options=LensOptions(source=("lens.imported",)),
        section=LensSection(key="imported_lens", describe=_describe),
        page_colours=("#1f7a3d", "#6fd08c"),
        dash="6 2 2 2",
    )
)
