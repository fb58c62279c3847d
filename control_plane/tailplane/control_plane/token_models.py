"""What is said over HTTP of stream tokens: the request and the answer. Shapes: PROTOCOL.md 2. No I/O."""

from datetime import timedelta
from typing import Annotated, Any

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from tailplane.control_plane import examples
from tailplane.control_plane.models import Body
from tailplane.control_plane.parameters import Parameter
from tailplane.protocol.credentials import LONGEST_LIFE, SHORTEST_LIFE, TOKEN_ID_PATTERN, StreamToken
from tailplane.protocol.scopes import Action

_EXAMPLE: dict[str, Any] = {
    "token": "tps_lwG5a18wMWpkM3o.q0m3yq8uU8D3Qv0r6p0T2o1hZ0m2k5r1y7x4w9v3s6c",
    "token_id": examples.TOKEN_ID,
    "subject": examples.TASK_ID,
    "actions": ["read"],
    "expires_at": 1767225600.0,
}
TOKEN_ID = Parameter("token_id", "path", {"pattern": f"^{TOKEN_ID_PATTERN}$", "examples": [examples.TOKEN_ID]})


class NewToken(Body):
    """What a stream token is to be."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"actions": ["read", "answer"], "expires_in": 600}]})

    actions: Annotated[list[Annotated[Action, Field(strict=False)]], Field(min_length=1, max_length=len(Action))] = (
        Field(
            [Action.READ],
            description="What its holder may do: `read`, `cancel`, `answer` (send messages). The API key must have the "
            "scopes for it.",
        )
    )
    expires_in: float = Field(
        600.0,
        ge=SHORTEST_LIFE.total_seconds(),
        le=LONGEST_LIFE.total_seconds(),
        description="How long it is good, in seconds.",
    )

    @property
    def life(self) -> timedelta:
        """How long it is good."""
        return timedelta(seconds=self.expires_in)


@with_config(ConfigDict(json_schema_extra={"examples": [_EXAMPLE]}))
class IssuedToken(TypedDict):
    """A stream token. Times are seconds since the epoch."""

    token: Annotated[str, Field(description="What its holder sends. Nobody can tell it again.")]
    token_id: Annotated[str, Field(description="By which it can be revoked.")]
    subject: Annotated[str, Field(description="The task or the session that it opens.")]
    actions: list[Action]
    expires_at: Annotated[float, Field(description="Not after the API key for which it was issued.")]


def token_form(token: StreamToken, text: str) -> IssuedToken:
    """Return a token's form; `text` is what its holder sends."""
    return IssuedToken(
        token=text,
        token_id=token.token_id,
        subject=token.subject,
        actions=sorted(token.actions),
        expires_at=token.expires_ms / 1000,
    )
