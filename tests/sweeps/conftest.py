"""A browser for the tests of the page, and a page in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from logos_pl.sweeps.records import PromptRecords
from tests.sweeps.browser import POSITIONS, ROWS, chromium, console, open_page, requests, resize
from tests.sweeps.page_records import page_records, write_page


@pytest.fixture(scope="package")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def chrome(session: Chrome) -> Iterator[Chrome]:
    resize(session, 1280)
    console(session)
    requests(session)
    yield session
    assert console(session) == []


@pytest.fixture
def records() -> list[PromptRecords]:
    return [page_records(ROWS, POSITIONS, ("norm", "tuned", "prism"), prompt_id=name) for name in ("pos", "ctl")]


@pytest.fixture
def page(chrome: Chrome, records: list[PromptRecords], tmp_path: Path) -> Chrome:
    open_page(chrome, write_page(tmp_path / "page.html", *records, lenses=("norm", "tuned", "prism")))
    return chrome
