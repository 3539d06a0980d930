"""What the buttons under an answer do. Every check is made here, whatever the platform showed."""

from dataclasses import dataclass
from datetime import datetime

from bot.chat import Author, ConversationKey, IncomingMessage, Press
from bot.choices.book import Books, Spot
from bot.commands.talk import describe_context, describe_reason, find_reason
from bot.controls import FOR_OWNERS, Pressed
from bot.delivery.desk import Delivery
from bot.permissions import refusal
from bot.writings import Writings
from storage.answers import Answered, record_feedback
from storage.conversations import find_or_add_account
from storage.database import Database, Session
from storage.tables import Rating

GONE = "I no longer know this answer."
NOT_YOURS = "Only who asked, and moderators, may do that."
STILL_WRITING = "I am still writing this answer."
GO_ON = "Please go on."
THANKS = "Thank you: noted."


@dataclass(frozen=True, slots=True)
class Presser:
    """Somebody who pressed a button, and where. `press_id` is the platform's id of the press."""

    conversation: ConversationKey
    author: Author
    press_id: str
    at: datetime
    private: bool = False


class Actions:
    def __init__(self, database: Database, books: Books, writings: Writings, delivery: Delivery) -> None:
        self._database = database
        self._books = books
        self._writings = writings
        self._delivery = delivery

    async def press(self, pressed: Pressed, presser: Presser) -> str | None:
        """The sentence for who pressed, or None where what happens says enough. Raises `StorageError`."""
        if pressed.name in FOR_OWNERS:
            refused = await self._refuse(pressed, presser)
            if refused is not None:
                return refused
        match pressed.name:
            case "stop":
                return None if self._writings.stop(pressed.inbox_id) else "It is written already."
            case "regenerate":
                await self._delivery.receive(_as_message(presser, "", Press("regenerate", pressed.inbox_id)))
            case "previous" | "next":
                press = Press("show", pressed.inbox_id, pressed.candidate)
                await self._delivery.receive(_as_message(presser, "", press))
            case "continue":
                await self._delivery.receive(_as_message(presser, GO_ON, None))
            case "up" | "down":
                return await self.rate(pressed, presser, pressed.name)
            case "why" | "context":
                found = await self._database.read(find_reason, pressed.inbox_id)
                if found is None:
                    return GONE
                return describe_reason(*found) if pressed.name == "why" else describe_context(found[1])
        return None

    async def rate(
        self, pressed: Pressed, presser: Presser, rating: Rating, reason: str | None = None
    ) -> str:
        """Keep what somebody thinks of an answer. A second thought is kept, too, and counts."""

        def rate(tx: Session) -> bool:
            found = find_reason(tx, pressed.inbox_id)
            if found is None or found[0].answer_id is None:
                return False
            place, author = presser.conversation, presser.author
            account = find_or_add_account(
                tx,
                platform=place.platform,
                workspace=place.workspace,
                external_id=author.id,
                name=author.name,
                is_bot=author.is_bot,
            )
            record_feedback(tx, found[0].answer_id, account, rating, reason)
            return True

        return THANKS if await self._database.write(rate) else GONE

    async def _refuse(self, pressed: Pressed, presser: Presser) -> str | None:
        """Who asked may, and who moderates; and both only where they may talk with the bot at all."""
        asker = self._writings.asker_of(pressed.inbox_id)
        open_ = asker is not None
        if asker is None:
            found = await self._database.read(find_reason, pressed.inbox_id)
            if found is None or found[0].question_id is None:
                return GONE
            asker, open_ = found[0].asker, not _is_written(found[0])
        if open_ and pressed.name != "stop":
            return STILL_WRITING
        book = await self._books.of(presser.conversation)
        spot = Spot(presser.conversation, presser.author, private=presser.private)
        permission = book.permit("chat", spot)
        if not permission.allowed and pressed.name != "stop":
            return refusal("chat", permission)
        if asker != presser.author.id and not book.permit("moderate", spot).allowed:
            return NOT_YOURS
        return None


def _is_written(answered: Answered) -> bool:
    """What is still being sent comes before what the press leads to."""
    return answered.state not in ("new", "claimed")


def _as_message(presser: Presser, text: str, press: Press | None) -> IncomingMessage:
    return IncomingMessage(
        conversation=presser.conversation,
        message_id=presser.press_id,
        author=presser.author,
        text=text,
        created_at=presser.at,
        via="button",
        private=presser.private,
        press=press,
    )
