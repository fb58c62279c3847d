"""Stream tokens, as applications ask for them on behalf of browsers."""

from collections.abc import Collection

from pydantic import Field

from tailplane.client.durations import Duration, seconds
from tailplane.client.link import Link
from tailplane.client.models import Answer, parse
from tailplane.protocol.scopes import Action


class StreamToken(Answer):
    """A credential for one task or session, which ends soon. Times are seconds since the epoch."""

    token: str = Field(repr=False)
    """What its holder sends: as `Authorization: Bearer`, or as `?token=` where a browser opens a stream."""

    token_id: str
    """By which `Client.revoke_token` revokes it."""

    subject: str
    actions: list[Action]
    expires_at: float


async def issue(link: Link, where: str, actions: Collection[Action | str], expires_in: Duration) -> StreamToken:
    """Ask an endpoint for a token. Asked twice, as after a lost answer, there is one that nobody ever uses."""
    body = {"actions": [str(action) for action in actions], "expires_in": seconds(expires_in)}
    return parse(StreamToken, (await link.transport.request("POST", where, body=body)).value)
