"""What is said in a channel without addressing the bot: whether it talks all the same. Nothing of the rest is kept."""

from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

from bot.chat import IncomingMessage
from bot.choices.book import Books, Spot, text_of
from bot.triggers import Heard, habits_of, judge
from storage.answers import list_unasked
from storage.database import Database

HOUR = timedelta(hours=1)


class Listener:
    """Looks for wake words, and now and then talks unasked, where a place's settings say so."""

    def __init__(self, database: Database, books: Books) -> None:
        self._database = database
        self._books = books

    async def hear(self, message: IncomingMessage, *, for_others: bool) -> IncomingMessage | None:
        """The message with the reason to answer it, or None. Raises `StorageError`."""
        spot = Spot(message.conversation, message.author, message.category, message.private)
        chosen = (await self._books.of(message.conversation)).resolve({}, spot)
        habits = habits_of(chosen)
        lively = habits.talk == "lively"
        if habits.talk == "off" or not (lively or habits.wake):
            return None
        place, zone = message.conversation, ZoneInfo(text_of(chosen, "timezone") or "UTC")
        since = message.created_at - HOUR
        times = (
            await self._database.read(list_unasked, place.platform, place.workspace, place.channel, since)
            if lively
            else []
        )
        heard = Heard(
            message_id=message.message_id,
            text=message.text,
            via=None,
            from_bot=message.author.is_bot,
            for_others=for_others,
            unasked_at=tuple(moment.astimezone(zone) for moment in times),
            at=message.created_at.astimezone(zone),
        )
        judgement = judge(heard, habits)
        if not judgement.speak:
            return None
        return replace(message, via="lively" if judgement.unasked else "wake", reason=judgement.reason)
