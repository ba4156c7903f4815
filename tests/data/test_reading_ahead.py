"""A loader that reads ahead has the length of its loader, where that has one, and its batches anew at every turn."""

import pytest

from logos_pl.data.reading_ahead import ReadAheadLoader, as_it_is


def test_batches_are_read_anew_at_every_iteration() -> None:
    loader = ReadAheadLoader([1, 2, 3], lambda batches: (10 * batch for batch in batches))
    assert (list(loader), list(loader), len(loader)) == ([10, 20, 30], [10, 20, 30], 3)


def test_an_endless_loader_stays_without_a_length() -> None:
    with pytest.raises(TypeError):
        len(ReadAheadLoader(iter([1]), iter))


def test_without_a_streamed_model_the_loader_is_the_loader() -> None:
    loader = [1]
    assert as_it_is("val", loader) is loader
