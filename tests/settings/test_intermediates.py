from logos_pl.settings.intermediates import IntermediatesSettings
from tests.settings.documentation import unexplained


def test_the_bundled_suite_is_read_by_default_and_every_option_is_explained() -> None:
    assert IntermediatesSettings().suite == "unspoken"
    assert unexplained(IntermediatesSettings) == set()
