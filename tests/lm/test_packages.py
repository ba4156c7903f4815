"""What a missing package is called, and how it is installed."""

import pytest

from logos_pl.errors import InputError
from logos_pl.lm.packages import require_packages


def test_what_is_installed_is_not_spoken_of() -> None:
    require_packages("this", ("torch", "huggingface-hub"))


@pytest.mark.parametrize(
    ("packages", "message"),
    [
        (("torch", "no-such"), r"this needs the package no-such, which is not installed: `pip install no-such`\.$"),
        (
            ("no-such", "nor-this"),
            r"the packages no-such and nor-this, which are not installed: `pip install no-such nor-this`\.$",
        ),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_installs_it(packages: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        require_packages("this", packages)
