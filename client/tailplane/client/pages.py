"""Lists that come in pages, as asynchronous iterators."""

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from typing import Generic, TypeVar

from tailplane.client.keys import ApiKeyInfo, KeyPage
from tailplane.client.link import Link
from tailplane.client.models import DeadLetter, DeadLetterPage, TaskPage, TaskStatus, parse
from tailplane.client.schedules import ScheduleInfo, SchedulePage
from tailplane.client.transport import path

T = TypeVar("T")


class Pages(AsyncIterator[T], Generic[T]):
    """What a list has, in its order; the next page is asked for when the one before is used up."""

    def __init__(self, link: Link, where: str, query: Mapping[str, str]) -> None:
        """Ask nothing yet; `query` are the list's filters."""
        self._link = link
        self._where = where
        self._query = dict(query)
        self._page: list[T] = []
        self._is_last = False

    async def __anext__(self) -> T:
        if not self._page:
            self._page = await self.take()
            self._page.reverse()
        return self._page.pop()

    async def take(self) -> list[T]:
        """Return the next page that is not empty; raise StopAsyncIteration after the last."""
        while not self._is_last:
            answer = await self._link.transport.request("GET", self._where, params=self._query)
            items, next_page = self._read(answer.value)
            self._is_last = next_page is None
            self._query["page"] = next_page or ""
            if items:
                return items
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Do nothing: between two pages it holds nothing."""

    @abstractmethod
    def _read(self, value: object) -> tuple[list[T], str | None]:
        """Return what a page holds, and where the next one begins."""


class TaskPages(Pages[TaskStatus]):
    """Tasks."""

    def __init__(self, link: Link, query: Mapping[str, str]) -> None:
        """Ask nothing yet; `query` are the list's filters."""
        super().__init__(link, path("tasks"), query)

    def _read(self, value: object) -> tuple[list[TaskStatus], str | None]:
        page = parse(TaskPage, value)
        return page.tasks, page.next_page


class DeadLetterPages(Pages[DeadLetter]):
    """Dead letters."""

    def __init__(self, link: Link, query: Mapping[str, str]) -> None:
        """Ask nothing yet; `query` are the list's filters."""
        super().__init__(link, path("dead-letters"), query)

    def _read(self, value: object) -> tuple[list[DeadLetter], str | None]:
        page = parse(DeadLetterPage, value)
        return page.dead_letters, page.next_page


class SchedulePages(Pages[ScheduleInfo]):
    """Schedules."""

    def __init__(self, link: Link, query: Mapping[str, str]) -> None:
        """Ask nothing yet; `query` are the list's filters."""
        super().__init__(link, path("schedules"), query)

    def _read(self, value: object) -> tuple[list[ScheduleInfo], str | None]:
        page = parse(SchedulePage, value)
        return page.schedules, page.next_page


class KeyPages(Pages[ApiKeyInfo]):
    """API keys."""

    def __init__(self, link: Link, query: Mapping[str, str]) -> None:
        """Ask nothing yet; `query` are the list's filters."""
        super().__init__(link, path("keys"), query)

    def _read(self, value: object) -> tuple[list[ApiKeyInfo], str | None]:
        page = parse(KeyPage, value)
        return page.keys, page.next_page
