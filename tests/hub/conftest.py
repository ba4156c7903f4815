"""The fixtures of `publishing`, for every test here."""

from tests.hub.publishing import checkpoints, hub, made, published, release

__all__ = ["checkpoints", "hub", "made", "published", "release"]
