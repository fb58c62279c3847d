"""Lists that come in pages, as asynchronous iterators."""

from collections.abc import AsyncIterator, Mapping

from tailplane.client.link import Link
from tailplane.client.models import TaskPage, TaskStatus, parse
from tailplane.client.transport import path


class TaskPages(AsyncIterator[TaskStatus]):
    """Tasks, newest first; the next page is asked for when the one before is used up."""

    def __init__(self, link: Link, query: Mapping[str, str]) -> None:
        """Ask nothing yet; `query` are the list's filters."""
        self._link = link
        self._query = dict(query)
        self._page: list[TaskStatus] = []
        self._is_last = False

    async def __anext__(self) -> TaskStatus:
        if not self._page:
            self._page = await self.take()
            self._page.reverse()
        return self._page.pop()

    async def take(self) -> list[TaskStatus]:
        """Return the next page that is not empty; raise StopAsyncIteration after the last."""
        while not self._is_last:
            answer = await self._link.transport.request("GET", path("tasks"), params=self._query)
            page = parse(TaskPage, answer.value)
            self._is_last = page.next_page is None
            self._query["page"] = page.next_page or ""
            if page.tasks:
                return page.tasks
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Do nothing: between two pages it holds nothing."""
