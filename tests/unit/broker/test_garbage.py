"""The collector leaves out what lives, and yet no cycle stays for good."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from tailplane.broker.garbage import Leaver


class Cycle:
    """Refers to itself."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_what_lives_is_left_out_until_all_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    leaver = Leaver()
    cycle = Cycle()
    seen = weakref.ref(cycle)
    leaver.tick()
    frozen = gc.get_freeze_count()
    assert frozen > 0
    del cycle
    gc.collect()
    assert seen() is not None
    monkeypatch.setattr(leaver, "_all_at", 0.0)
    leaver.tick()
    assert seen() is None
    assert gc.get_freeze_count() > 0
