"""Stands for the core below a real delivery, on the test's database."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from bot.actions import Actions
from bot.answer import Answer, Answerer, Question
from bot.chat import CommandCall, IncomingMessage, Reply
from bot.delivery.answering import Answering
from bot.delivery.desk import Delivery
from bot.delivery.worker import Worker
from bot.listening import Listener
from bot.pointing import Pointing
from bot.use_cases import UseCases
from bot.writings import Writings
from storage.database import Database
from tests.bot.conversation import books
from tests.fakes.engine import FakeEngine


class Talker(Answerer):
    """Writes down what it is asked, and answers `say(message)`, one piece after the other, when it may."""

    def __init__(self, database: Database, say: Callable[[IncomingMessage], list[str]] | None = None) -> None:
        super().__init__(FakeEngine(), database, books(database), reply_seconds=60.0)
        self.database = database
        self.books, self.writings = books(database), Writings()
        self.asked: asyncio.Queue[IncomingMessage] = asyncio.Queue()
        self.commands: list[CommandCall] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self._say = say or (lambda message: [f"You said: {message.text}"])

    async def answer(
        self, message: IncomingMessage, question: Question, answer: Answer, reply: Reply
    ) -> None:
        self.asked.put_nowait(message)
        await self.may_answer.wait()
        for piece in self._say(message):
            await self.speak(piece, answer, reply)

    async def speak(self, piece: str, answer: Answer, reply: Reply) -> None:
        answer.text += piece
        await reply.append(piece)

    async def run_command(self, call: CommandCall) -> str:
        self.commands.append(call)
        return f"*{call.name}* for <{call.author.name}>"

    async def complete(self, call: CommandCall, option: str, typed: str) -> list[str]:
        return [f"{call.name} {option} {typed}"]

    async def status(self) -> str:
        return "model fake"

    def use_cases(self, delivery: Delivery) -> UseCases:
        """As the wiring makes them, over this talker."""
        actions = Actions(self.database, self.books, self.writings, delivery)
        return UseCases(
            delivery=delivery,
            run_command=self.run_command,
            complete=self.complete,
            actions=actions,
            pointing=Pointing(self.database, self.books, actions),
            listen=Listener(self.database, self.books).hear,
            prepare=self.prepare,
            status=self.status,
        )

    def open_delivery(self) -> Delivery:
        """A new one, as each start of Parley makes it."""
        answering = Answering(
            self.database,
            self,
            self.run_command,
            self.books,
            self.writings,
            edit_seconds=0.01,
            answer_window=timedelta(minutes=30),
        )
        worker = Worker(self.database, answering, owner="parley", lease_seconds=30, parallel=8)
        return Delivery(self.database, worker, scan_seconds=3600)
