"""Fixtures that run your workflows on a real local cluster, in your own tests. Loaded by pytest by itself.

Say with a mark what the workers shall run, and ask for a client:

    @pytest.mark.tailplane("shop.flows")                # module:attribute, a module, or a file
    def test_an_order_ends_with_a_receipt(tailplane_sync_client):
        task = tailplane_sync_client.run_workflow("order", {"item": "pear"})
        assert [event.data for event in task.events() if event.kind == "workflow"][-1] == "receipt printed"

    @pytest.mark.tailplane("shop.flows")
    async def test_the_same_with_async(tailplane_client):   # with anyio's or pytest-asyncio's plugin
        async with tailplane_client as client:
            task = await client.run_workflow("order", {"item": "pear"})
            assert await task.result() == "done"

The mark may stand on a test, a class or a module (`pytestmark = pytest.mark.tailplane(...)`). For all tests of a
directory override the fixture `tailplane_target` in its conftest.py: `return "shop.flows"`.

* `tailplane_cluster`: a function `(target, *, workers=1) -> LocalCluster`. Each combination is started once in a
  session (about two seconds) and serves all tests that ask for it; its processes can be killed and restarted.
* `tailplane_url`: the control plane's address, for a client of your own (`Client(tailplane_url, event_models=[...])`).
* `tailplane_client`, `tailplane_sync_client`: clients of it.

Workers import what the tests can import, from the directory that pytest calls rootdir. Nothing starts for tests that
use none of these fixtures. Needs `pip install 'tailplane[local]'`.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

# Imported in every pytest run of every project that has Tailplane installed: everything heavy waits for its fixture.
if TYPE_CHECKING:
    from tailplane.client import Client, SyncClient
    from tailplane.deploy.cluster import LocalCluster

    StartCluster = Callable[..., LocalCluster]


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", "tailplane(target): what its workers run, such as shop.flows")


@pytest.fixture(scope="session")
def tailplane_cluster(pytestconfig: pytest.Config) -> "Iterator[StartCluster]":
    """Start clusters: `tailplane_cluster("shop.flows", workers=2)` gives a running `LocalCluster`."""
    from tailplane.deploy.cluster import LocalCluster, Plan
    from tailplane.deploy.import_path import import_path

    running: dict[tuple[str, int], LocalCluster] = {}
    with contextlib.ExitStack() as stack:

        def start(target: str, *, workers: int = 1) -> LocalCluster:
            if (target, workers) not in running:
                env = {"PYTHONPATH": import_path()}
                plan = Plan(target=target, workers=workers, env=env, cwd=pytestconfig.rootpath)
                running[target, workers] = stack.enter_context(LocalCluster(plan))
            return running[target, workers]

        yield start


@pytest.fixture
def tailplane_target(request: pytest.FixtureRequest) -> str:
    """What the workers run: the argument of the closest `tailplane` mark. Override it to say so for many tests."""
    mark = request.node.get_closest_marker("tailplane")
    if mark is None or len(mark.args) != 1 or not isinstance(mark.args[0], str):
        raise pytest.UsageError(
            f"{request.node.nodeid} asks for a Tailplane fixture: mark it @pytest.mark.tailplane('shop.flows'), "
            "or override the fixture tailplane_target"
        )
    return mark.args[0]


@pytest.fixture
def tailplane_url(tailplane_cluster: "StartCluster", tailplane_target: str) -> str:
    """Give the address of a control plane whose workers run `tailplane_target`."""
    return tailplane_cluster(tailplane_target).url


@pytest.fixture
def tailplane_client(tailplane_url: str) -> "Client":
    """Give a client; enter it in the test (`async with tailplane_client as client:`), on the test's own event loop."""
    from tailplane.client import Client

    # What the environment says of another deployment is not meant for this one.
    return Client(tailplane_url, api_key="")


@pytest.fixture
def tailplane_sync_client(tailplane_url: str) -> "Iterator[SyncClient]":
    """Give a blocking client, closed after the test."""
    from tailplane.client import SyncClient

    with SyncClient(tailplane_url, api_key="") as client:
        yield client
