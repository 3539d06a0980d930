"""What the platforms hand to: everything that a person can do with Parley, in one value."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bot.actions import Actions
from bot.chat import Complete, Listen, Prepare, RunCommand
from bot.delivery.desk import Delivery
from bot.pointing import Pointing

Status = Callable[[], Awaitable[str]]
"""What serves; it waits until something does."""


@dataclass(frozen=True, slots=True)
class UseCases:
    delivery: Delivery
    run_command: RunCommand
    complete: Complete
    actions: Actions
    pointing: Pointing
    listen: Listen
    prepare: Prepare
    status: Status
