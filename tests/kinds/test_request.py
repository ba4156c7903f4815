from logos_pl.kinds.request import FoundLens, LensOptions, LensRequest, LoadedLens


def test_a_request_names_no_lens_and_requires_none_unless_it_says_so() -> None:
    request = LensRequest("org/tiny", "tiny")
    assert (request.use, request.source, request.revision, request.folder) == ("auto", None, None, None)
    assert LensOptions().source == ()


def test_a_lens_is_there_and_nothing_is_known_of_it_unless_its_kind_says_so() -> None:
    loaded = LoadedLens({})
    found = FoundLens(lambda lm, head: loaded)
    assert (found.there, found.sentence, found.title) == (True, None, None)
    assert (loaded.origin, loaded.held_out_frac, loaded.identity, loaded.sentence) == (None, None, "", None)
