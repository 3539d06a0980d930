"""A `Courier` in memory: what stands in the channels, with posts that fail before or after they were applied."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from bot.chat import ConversationKey, IncomingMessage, PlatformName
from bot.controls import Controls
from bot.delivery.courier import HistoryPage, InDoubt, Post
from bot.errors import DeliveryFailed


@dataclass
class Shown:
    question: str
    part: int
    text: str
    nonce: str
    controls: Controls | None = None


class FakeCourier:
    name: ClassVar[PlatformName] = "discord"
    typing_seconds = 3600.0
    has_controls = False

    def __init__(self, *, limit: int = 2000, room: bool = True) -> None:
        self.standing: dict[str, Shown] = {}
        self.history: list[IncomingMessage] = []
        self.before_posting: deque[DeliveryFailed | None] = deque()
        """What the next posts fail with, before they are applied."""
        self.after_posting: deque[DeliveryFailed | None] = deque()
        """What the next posts fail with although they are applied."""
        self.calls: list[str] = []
        self.may_read = asyncio.Event()
        self.may_read.set()
        self._limit, self._room = limit, room
        self._changed = asyncio.Condition()

    def limit(self, question: IncomingMessage) -> int:
        return self._limit

    async def describe(self, question: IncomingMessage) -> IncomingMessage:
        return replace(question, text=question.text.replace("<@1>", "@Ada"))

    async def post(self, post: Post) -> str:
        await self._note("post")
        if self.before_posting and (error := self.before_posting.popleft()):
            raise error
        number = f"p{len(self.standing)}"
        self.standing[number] = Shown(
            post.question.message_id, post.part, post.text, post.nonce, post.controls
        )
        await self._note("posted")
        if self.after_posting and (error := self.after_posting.popleft()):
            raise error
        return number

    async def find(self, post: Post) -> str | None:
        await self._note("find")
        return next((number for number, shown in self.standing.items() if shown.nonce == post.nonce), None)

    async def is_answered(self, question: IncomingMessage) -> bool:
        return any(shown.question == question.message_id for shown in self.standing.values())

    async def edit(
        self,
        question: IncomingMessage,
        message_id: str,
        text: str,
        part: int,
        controls: Controls | None = None,
    ) -> None:
        self.standing[message_id].text = text
        self.standing[message_id].controls = controls
        await self._note("edit")

    def may_edit(self) -> bool:
        return self._room

    async def delete(self, question: IncomingMessage, message_id: str) -> None:
        del self.standing[message_id]
        await self._note("delete")

    async def typing(self, question: IncomingMessage) -> None:
        await self._note("typing")

    async def read_history(self, place: ConversationKey, private: bool, after: str) -> HistoryPage:
        await self._note("history")
        await self.may_read.wait()
        said = [
            said for said in self.history if said.conversation == place and int(said.message_id) > int(after)
        ]
        page = said[:2]
        return HistoryPage(page, page[-1].message_id if page else after, more=len(said) > 2)

    async def is_newer(self, place: ConversationKey, after: str) -> bool:
        return True

    @property
    def texts(self) -> list[str]:
        return [shown.text for shown in self.standing.values()]

    async def wait_for(self, call: str) -> None:
        await self.wait_until(lambda: call in self.calls)

    async def wait_until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(happened)

    async def _note(self, call: str) -> None:
        async with self._changed:
            self.calls.append(call)
            self._changed.notify_all()


def in_doubt() -> InDoubt:
    return InDoubt("The connection broke.")
