"""What people do with a message that they point at: ask again, report it, react to it, or go on from it elsewhere."""

from dataclasses import asdict

from bot.actions import Actions, Presser
from bot.chat import ConversationKey
from bot.choices.book import Books, Spot
from bot.controls import Pressed
from bot.permissions import Need, refusal
from storage.answers import record_feedback
from storage.conversations import find_conversation, find_or_add_account, find_or_add_conversation
from storage.database import Database, Session
from storage.flags import add_flag
from storage.pointing import Pointed, find_last_shown, find_pointed
from storage.tables import Rating

NO_ANSWER = "I can answer again only what I have answered already."
ANOTHER = "I am writing another answer to it."
NOT_STORED = "Only messages of conversations with me can be reported so far: this one is not stored here."
REPORTED = "Thank you: your report is kept for those who moderate here."


class Pointing:
    """Every method takes who points, with the place of the message, and the platform's id of it."""

    def __init__(self, database: Database, books: Books, actions: Actions) -> None:
        self._database = database
        self._books = books
        self._actions = actions

    async def refuse(self, need: Need, presser: Presser) -> str | None:
        """The sentence for somebody who may not; None for whoever may."""
        spot = Spot(presser.conversation, presser.author, private=presser.private)
        permission = (await self._books.of(presser.conversation)).permit(need, spot)
        return None if permission.allowed else refusal(need, permission)

    async def ask_again(self, presser: Presser, message_id: str) -> str:
        """Another answer in place of this one, or of the one to this question."""
        pointed = await self._database.read(_find, presser.conversation, message_id)
        if pointed is None or pointed.inbox_id is None:
            return NO_ANSWER
        return await self._actions.press(Pressed("regenerate", pointed.inbox_id), presser) or ANOTHER

    async def is_stored(self, presser: Presser, message_id: str) -> bool:
        return await self._database.read(_find, presser.conversation, message_id) is not None

    async def report(self, presser: Presser, message_id: str, reason: str) -> str:
        def report(tx: Session) -> bool:
            pointed = _find(tx, presser.conversation, message_id)
            if pointed is not None:
                add_flag(
                    tx,
                    pointed.message_id,
                    source="person",
                    category="reported",
                    reporter_id=_account(tx, presser),
                    evidence=reason or None,
                )
            return pointed is not None

        return REPORTED if await self._database.write(report) else NOT_STORED

    async def react(self, presser: Presser, message_id: str, rating: Rating) -> bool:
        """Keep it as a button's press would. False where it is no answer of ours."""

        def react(tx: Session) -> bool:
            pointed = _find(tx, presser.conversation, message_id)
            if pointed is None or pointed.role != "assistant":
                return False
            record_feedback(tx, pointed.message_id, _account(tx, presser), rating)
            return True

        return await self._database.write(react)

    async def last_answer(self, place: ConversationKey) -> str | None:
        """The platform's id of the last message of the newest answer there."""

        def find(session: Session) -> str | None:
            conversation = find_conversation(session, **asdict(place))
            return None if conversation is None else find_last_shown(session, conversation.id)

        return await self._database.read(find)

    async def join(self, place: ConversationKey) -> None:
        """Take part in a thread, before anything was said to us in it."""

        def join(tx: Session) -> None:
            find_or_add_conversation(tx, **asdict(place), private=False)

        await self._database.write(join)


def _find(session: Session, place: ConversationKey, message_id: str) -> Pointed | None:
    return find_pointed(session, place.platform, place.workspace, place.channel, message_id)


def _account(tx: Session, presser: Presser) -> int:
    place, author = presser.conversation, presser.author
    return find_or_add_account(
        tx,
        platform=place.platform,
        workspace=place.workspace,
        external_id=author.id,
        name=author.name,
        is_bot=author.is_bot,
    )
