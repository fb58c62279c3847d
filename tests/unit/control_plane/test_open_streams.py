"""Streams are counted by tenant and key while they are open, and cut by their credentials."""

from tailplane.control_plane.access import ANYBODY, Caller
from tailplane.control_plane.open_streams import Credential, OpenStreams
from tailplane.protocol.credentials import StreamToken
from tailplane.protocol.ids import new_key_id, new_task_id
from tailplane.protocol.scopes import Action, Scope

KEY = new_key_id()
BY_KEY = Caller("acme", KEY, frozenset({Scope.READ}))
TOKEN = StreamToken("one", "acme", KEY, new_task_id(), frozenset({Action.READ}), 90_500)
BY_TOKEN = Caller("acme", KEY, frozenset(), TOKEN, 90.5)


def test_counts_go_by_tenant_and_key_and_leave_with_the_streams() -> None:
    streams = OpenStreams()
    first, second, third = streams.enter(BY_KEY), streams.enter(BY_TOKEN), streams.enter(ANYBODY)
    assert (streams.of_tenant("acme"), streams.of_key(KEY), streams.of_tenant("default")) == (2, 2, 1)
    assert streams.key_ids == [KEY]
    first.leave()
    first.leave()
    assert (streams.of_tenant("acme"), streams.of_key(KEY)) == (1, 1)
    second.leave()
    third.leave()
    assert (streams.of_tenant("acme"), streams.of_key(KEY), streams.of_tenant("default")) == (0, 0, 0)
    assert streams.key_ids == []
    assert (streams._places, streams._by_tenant, streams._by_key) == ({}, {}, {})


async def test_streams_of_an_ended_credential_are_cut_once_and_no_others() -> None:
    streams, cut = OpenStreams(), []
    places = [streams.enter(BY_TOKEN) for _ in range(1200)]
    for place in places:
        place.watch(lambda: cut.append(1))
    other, anybody = streams.enter(BY_KEY), streams.enter(ANYBODY)
    asked: list[Credential] = []

    def is_good(credential: Credential) -> bool:
        asked.append(credential)
        return credential.token_id is None

    assert await streams.cut_ended(is_good) == len(cut) == 1200
    assert asked == [Credential(KEY, "one", 90.5), Credential(KEY, None, None)]
    assert not other.is_cut
    assert not anybody.is_cut
    assert await streams.cut_ended(is_good) == 0
