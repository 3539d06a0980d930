"""The commands about a conversation itself: begin afresh, stop, and say what was seen and why."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bot.chat import CommandCall
from bot.choices.book import Books
from bot.commands.choices import spot_of
from bot.writings import Writings
from storage.answers import Answered, find_answered, find_answered_by
from storage.conversations import find_conversation, reset_conversation, undo_reset
from storage.database import Database, Session
from storage.turns import TurnFacts, find_turn

NOTHING_YET = "I have not answered anything here yet."
NO_MODEL = "No model wrote that answer."

_END = {
    "stop": "itself",
    "length": "its limit of tokens",
    "cancelled": "being stopped",
    "failed": "a failure",
}


@dataclass(frozen=True, slots=True)
class TalkCommands:
    database: Database
    books: Books
    writings: Writings

    async def reset(self, call: CommandCall) -> str:
        def reset(tx: Session) -> bool:
            conversation = find_conversation(tx, **asdict(call.conversation))
            if conversation is not None:
                reset_conversation(tx, conversation)
            return conversation is not None

        if not await self.database.write(reset):
            return "There is nothing to forget: we have not talked here yet."
        return (
            "Done: I start afresh here. What was said before is no longer part of what I see. "
            "The command undo takes this back."
        )

    async def undo(self, call: CommandCall) -> str:
        def undo(tx: Session) -> bool:
            conversation = find_conversation(tx, **asdict(call.conversation))
            return conversation is not None and undo_reset(tx, conversation)

        if not await self.database.write(undo):
            return "There is no reset here that could be taken back."
        return "Done: I see again what was said before the reset."

    async def stop(self, call: CommandCall) -> str:
        """Everybody stops what they asked for; who moderates stops all."""
        moderates = (await self.books.of(call.conversation)).permit("moderate", spot_of(call)).allowed
        stopped = self.writings.stop_at(call.conversation, None if moderates else call.author.id)
        if not stopped:
            return "I am writing nothing here that you could stop."
        return "Stopped." if stopped == 1 else f"Stopped: {stopped} answers."

    async def show_context(self, call: CommandCall) -> str:
        _, turn = await self.database.read(_find_last, call)
        return NOTHING_YET if turn is None else describe_context(turn)

    async def say_why(self, call: CommandCall) -> str:
        answered, turn = await self.database.read(_find_last, call)
        return NOTHING_YET if turn is None else describe_reason(answered, turn)


def _find_last(session: Session, call: CommandCall) -> tuple[Answered | None, TurnFacts | None]:
    """The newest answer at the place of a command."""
    conversation = find_conversation(session, **asdict(call.conversation))
    turn = None if conversation is None else find_turn(session, conversation_id=conversation.id)
    if turn is None or turn.answer_id is None:
        return None, turn
    return find_answered_by(session, turn.answer_id), turn


def find_reason(session: Session, inbox_id: int) -> tuple[Answered, TurnFacts | None] | None:
    """What is known of an answer by its row of the inbox."""
    answered = find_answered(session, inbox_id)
    if answered is None:
        return None
    turn = None if answered.answer_id is None else find_turn(session, answer_id=answered.answer_id)
    return answered, turn


def describe_reason(answered: Answered | None, turn: TurnFacts | None) -> str:
    """Why there is an answer, and how it came to be."""
    reason = answered.reason if answered is not None else None
    lines = [f"I answered because {reason or 'you spoke to me'}."]
    if turn is None:
        return "\n".join([*lines, NO_MODEL])
    lines += [
        f"Model: {turn.model}, version {turn.version}.",
        f"Sampling: {_sampling(turn.sampling, turn.seed)}.",
        f"I saw {len(turn.prompt_message_ids)} messages, {_count(turn.prompt_tokens)} tokens "
        f"({_count(turn.cached_tokens)} of them known already), and wrote {_count(turn.completion_tokens)} tokens.",
        f"It took {turn.total_seconds:.1f} s{_first(turn.first_token_seconds)}{_waited(turn.queue_seconds)}.",
        f"It ended by {_END[turn.finish_reason]}.",
        f"This is turn {turn.id}.",
    ]
    return "\n".join(lines)


def describe_context(turn: TurnFacts | None) -> str:
    """Exactly what the model saw."""
    if turn is None:
        return NO_MODEL
    if turn.prompt is None:
        return "What the model saw then is no longer kept."
    said = [f"[{_speaker(message)}]\n{message['content']}" for message in turn.prompt]
    return "\n\n".join([f"What the model saw, all of it ({_count(turn.prompt_tokens)} tokens):", *said])


def _speaker(message: Mapping[str, Any]) -> str:
    return f"{message['role']}, {message['name']}" if message.get("name") else str(message["role"])


def _sampling(sampling: Mapping[str, Any], seed: int | None) -> str:
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens")
    shown = [f"{name} {sampling[name]:g}" for name in names if isinstance(sampling.get(name), int | float)]
    return ", ".join([*shown, f"seed {seed}"] if seed is not None else shown) or "as the model recommends"


def _count(number: int | None) -> str:
    return "an unknown number of" if number is None else f"{number:,}"


def _first(seconds: float | None) -> str:
    return "" if seconds is None else f", {seconds:.1f} s to the first word"


def _waited(seconds: float | None) -> str:
    return "" if not seconds or seconds < 0.05 else f", after {seconds:.1f} s in the queue"
