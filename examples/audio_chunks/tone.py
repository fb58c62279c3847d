"""The workflow's input, which both sides import: what is wrong with it is told before anything is sent."""

from pydantic import BaseModel, Field


class Tone(BaseModel):
    """A sine tone."""

    frequency_hz: float = Field(440, gt=0, le=20_000)
    seconds: float = Field(2, gt=0, le=300)
    rate: int = Field(24_000, ge=8_000, le=48_000, description="Samples per second.")
