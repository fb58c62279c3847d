"""What the workflow asks, and what it is told. Both sides import it: each gets objects of these classes."""

from pydantic import BaseModel


class Question(BaseModel):
    """Written to the stream when somebody has to decide."""

    order: str
    cents: int


class Approval(BaseModel):
    """Sent to the task by whoever decides."""

    approved: bool
    by: str
