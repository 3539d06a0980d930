"""The door of all commands that answer with one text: who may, what was typed wrongly, and whom to ask."""

from collections.abc import Awaitable, Callable, Mapping

from bot.chat import CommandCall
from bot.choices.book import Books
from bot.commands.choices import ChoiceCommands, Refused, spot_of
from bot.commands.complete import complete
from bot.commands.guide import write_help
from bot.commands.table import BY_NAME
from bot.commands.talk import TalkCommands
from bot.permissions import refusal
from bot.writings import Writings
from model.protocol import Engine
from storage.database import Database

Handler = Callable[[CommandCall], Awaitable[str]]


class Commands:
    def __init__(self, engine: Engine, database: Database, books: Books, writings: Writings) -> None:
        self._engine = engine
        self._database = database
        self._books = books
        choices = ChoiceCommands(engine, database, books)
        talk = TalkCommands(database, books, writings)
        self._handlers: Mapping[str, Handler] = {
            "help": self._help,
            "reset": talk.reset,
            "undo": talk.undo,
            "stop": talk.stop,
            "context": talk.show_context,
            "why": talk.say_why,
            "sampling show": choices.show_sampling,
            "sampling set": choices.set_sampling,
            "sampling preset": choices.take_preset,
            "sampling save": choices.save_preset,
            "sampling reset": choices.reset_sampling,
            "settings show": choices.show_settings,
            "settings set": choices.set_setting,
            "settings clear": choices.clear_setting,
            "bundle list": choices.list_bundles,
            "bundle show": choices.show_bundle,
            "bundle set": choices.set_in_bundle,
            "bundle delete": choices.delete_bundle,
            "bundle bind": choices.bind_bundle,
            "bundle unbind": choices.unbind_bundle,
            "access show": choices.show_access,
            "access allow": choices.allow,
            "access deny": choices.deny,
            "access clear": choices.clear_access,
        }

    async def run(self, call: CommandCall) -> str:
        """The outcome, in words. What a person did wrong is said, and not raised."""
        if call.fault is not None:
            return call.fault
        handler, command = self._handlers.get(call.name), BY_NAME.get(call.name)
        if handler is None or command is None:
            return f"There is no command {call.name}. Try help."
        permission = (await self._books.of(call.conversation)).permit(command.need, spot_of(call))
        if not permission.allowed:
            return refusal(command.need, permission)
        try:
            return await handler(call)
        except Refused as sentence:
            return str(sentence)

    async def complete(self, call: CommandCall, option: str, typed: str) -> list[str]:
        """What may be offered for an option while it is typed."""
        return await complete(self._books, call, option, typed)

    async def _help(self, call: CommandCall) -> str:
        health = await self._engine.health()
        return write_help(call.conversation.platform, health.model)
