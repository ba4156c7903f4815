from logos_pl.settings.compare import CompareSettings
from tests.settings.documentation import unexplained


def test_results_go_to_a_new_folder_by_default_and_every_option_is_explained() -> None:
    assert CompareSettings().out_dir is None
    assert unexplained(CompareSettings) == set()
