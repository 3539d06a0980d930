"""Shows an answer while it is being written: each part is posted once, through the outbox, then edited."""

from collections.abc import Sequence
from datetime import UTC, datetime

import structlog

from bot.chat import IncomingMessage
from bot.controls import Controls
from bot.delivery.courier import Courier, InDoubt, NotApplied, Post
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

    @property
    def begun(self) -> bool:
        return bool(self._posted)

    async def show(self, pieces: Sequence[str]) -> bool:
        edited = False
        try:
            for part, text in enumerate(pieces):
                if self._stuck or self.shown.get(part) == text:
                    continue
                if part not in self._posted:
                    await self._post(part, text)
                elif edited:
                    return False
                else:
                    edited = await self._edit(part, text)
        except (DeliveryFailed, StorageError) as error:
            self._stuck = True
            log.info("an answer is shown when it is complete", reason=str(error))
        return True

    async def typing(self) -> None:
        await self._courier.typing(self._question)

    async def _post(self, number: int, text: str) -> None:
        now = datetime.now(UTC)
        part = await self._database.write(add_preview, self._claim, number, text, now)
        previous = self._posted.get(number - 1)
        post = Post(
            self._question,
            number,
            text,
            part.nonce,
            now,
            previous,
            final=False,
            controls=self._controls(number),
        )
        try:
            external_id = await self._courier.post(post)
        except InDoubt:
            raise
        except DeliveryFailed as error:
            await self._database.write(mark_pending, self._claim, part, str(error))
            raise
        await self._database.write(mark_sent, self._claim, part, external_id)
        self._posted[number], self.shown[number] = external_id, text

    async def _edit(self, number: int, text: str) -> bool:
        """Left out, which is False, when there is no room for it: a later edit shows more."""
        external_id = self._posted[number]
        if external_id is None or not self._courier.may_edit():
            return False
        self.shown.pop(number, None)
        try:
            await self._courier.edit(self._question, external_id, text, number, self._controls(number))
            self.shown[number] = text
        except NotApplied as error:
            log.debug("an edit is left out", reason=str(error))
        return True

    def _controls(self, number: int) -> Controls | None:
        """An answer can be stopped under its first message, which is the one that is there from the beginning."""
        return Controls(self._claim.inbox_id, live=True) if number == 0 else None
