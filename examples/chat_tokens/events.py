"""What the workflow writes. Both sides import it: the client gets `Token` objects back."""

from pydantic import BaseModel


class Token(BaseModel):
    """A piece of the answer; the endpoint decides how much text that is."""

    text: str
