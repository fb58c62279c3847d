import resource
from collections.abc import Iterator

import pytest

from tailplane.control_plane.open_files import raise_open_files


@pytest.fixture
def few_files() -> Iterator[int]:
    """Let this process open few more files than it has open; give how many it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_limit_is_raised_to_what_is_wanted(few_files: int) -> None:
    assert raise_open_files(600) == 600
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (600, few_files)


def test_it_is_never_lowered(few_files: int) -> None:
    assert raise_open_files(100) == 512
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (512, few_files)


def test_it_is_raised_to_the_hard_limit_at_most(few_files: int) -> None:
    if few_files == resource.RLIM_INFINITY:
        pytest.skip("there is no hard limit here")
    assert raise_open_files(few_files + 1) == few_files
