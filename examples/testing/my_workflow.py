"""The workflow under test."""

from collections.abc import AsyncIterator

from tailplane.workers import Context, workflow


@workflow
async def count_words(ctx: Context, texts: list[str]) -> dict[str, int]:
    """Count the words of each text, and tell each count at once."""
    total = 0
    for text in texts:
        if not text:
            raise ValueError("an empty text has no words")
        count = len(text.split())
        ctx.write_event_to_stream({"text": text, "words": count})
        total += count
    return {"total": total}


@workflow
async def letters(ctx: Context, word: str) -> AsyncIterator[str]:
    """Give a word letter by letter: what an async generator yields is an event."""
    for letter in word:
        yield letter
