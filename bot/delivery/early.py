"""Shows an answer while it is being written: each part is posted once, through the outbox, then edited."""

from datetime import UTC, datetime

import structlog

from bot.chat import IncomingMessage
from bot.delivery.courier import Courier, InDoubt, Post
from bot.errors import DeliveryFailed
from storage.database import Database
from storage.errors import StorageError
from storage.inbox import Claim
from storage.outbox import Part, add_preview, mark_pending, mark_sent

log = structlog.get_logger()


class EarlyParts:
    """A `PreviewSink`. What fails stays behind: the committed answer is sent in any case."""

    def __init__(
        self,
        database: Database,
        courier: Courier,
        claim: Claim,
        question: IncomingMessage,
        parts: list[Part],
    ) -> None:
        """`parts` are those of an earlier try that was cut off; none of them is in doubt."""
        self._database = database
        self._courier = courier
        self._claim = claim
        self._question = question
        self._posted = {part.part: part.external_id for part in parts}
        self._stuck = False
        self.limit = courier.limit(question)
        self.typing_seconds = courier.typing_seconds
        self.shown: dict[int, str] = {}
        """What each part shows for certain."""

    async def show(self, part: int, text: str) -> None:
        if self._stuck or self.shown.get(part) == text:
            return
        try:
            if part not in self._posted:
                await self._post(part, text)
            else:
                await self._edit(part, text)
        except (DeliveryFailed, StorageError) as error:
            self._stuck = True
            self.shown.pop(part, None)
            log.info("an answer is shown when it is complete", reason=str(error))

    async def typing(self) -> None:
        await self._courier.typing(self._question)

    async def _post(self, number: int, text: str) -> None:
        now = datetime.now(UTC)
        async with self._database.transaction() as tx:
            part = await add_preview(tx, self._claim, number, text, now)
        previous = self._posted.get(number - 1)
        post = Post(self._question, number, text, part.nonce, now, previous, final=False)
        try:
            external_id = await self._courier.post(post)
        except InDoubt:
            raise
        except DeliveryFailed as error:
            async with self._database.transaction() as tx:
                await mark_pending(tx, self._claim, part, str(error))
            raise
        async with self._database.transaction() as tx:
            await mark_sent(tx, self._claim, part, external_id)
        self._posted[number], self.shown[number] = external_id, text

    async def _edit(self, number: int, text: str) -> None:
        """Left out when there is no room for it: a later edit shows more."""
        external_id = self._posted[number]
        if external_id is not None and self._courier.may_edit():
            self.shown.pop(number, None)
            await self._courier.edit(self._question, external_id, text, number)
            self.shown[number] = text
