"""The commands that choose: sampling, settings, bundles, and who may do what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bot.chat import CommandCall
from bot.choices.book import Book, Books, Spot
from bot.choices.resolve import Chosen, describe, outside_limit
from bot.choices.table import PRESETS, SAMPLING, SETTINGS, read_setting
from bot.commands.subjects import read_subject
from bot.permissions import Need
from model.protocol import Engine
from storage.choices import (
    Place,
    StoredRule,
    clear_choices,
    clear_rule,
    delete_bundle,
    find_or_add_workspace,
    save_bundle,
    set_choice,
    set_rule,
)
from storage.conversations import find_or_add_account
from storage.database import Database, Session

MOST_BUNDLES, MOST_PRESETS = 50, 20
LONGEST_NAME = 40

Change = Callable[[Session, int, int], None]
"""Takes the transaction, the id of the workspace, and the id of the account that changes something."""


class Refused(Exception):
    """The sentence for the person."""


@dataclass(frozen=True, slots=True)
class ChoiceCommands:
    engine: Engine
    database: Database
    books: Books

    async def show_sampling(self, call: CommandCall) -> str:
        chosen = await self._resolve(call)
        return f"How words are drawn for you here:\n{describe(chosen, SAMPLING)}"

    async def set_sampling(self, call: CommandCall) -> str:
        name = call.options["setting"].lower()
        if name not in SAMPLING:
            raise Refused(f"{name!r} is no sampling setting; there are {', '.join(SAMPLING)}.")
        return await self._choose_sampling(call, {name: call.options["value"]}, f"{name} is")

    async def take_preset(self, call: CommandCall) -> str:
        name = call.options["name"]
        book = await self.books.of(call.conversation)
        values = PRESETS.get(name.lower()) or book.bundle(name, owner=call.author.id)
        if values is None:
            known = ", ".join([*PRESETS, *book.bundles(owner=call.author.id)])
            raise Refused(f"There is no preset {name!r}; there are {known}.")
        return await self._choose_sampling(call, values, f"The preset {name} is")

    async def save_preset(self, call: CommandCall) -> str:
        name = _new_name(call.options["name"])
        if name.lower() in PRESETS:
            raise Refused(f"{name} is a preset of Parley's own; please choose another name.")
        book = await self.books.of(call.conversation)
        mine = book.bundles(owner=call.author.id)
        if len(mine) >= MOST_PRESETS and name not in mine:
            raise Refused(f"You have {len(mine)} presets, which is as many as I keep for one person.")
        values = {
            setting: value
            for setting, value in book.at("person", call.author.id).items()
            if setting in SAMPLING
        }
        if not values:
            raise Refused("You have chosen nothing yet that I could save. Begin with sampling set.")
        await self._change(
            call,
            lambda tx, workspace, account: save_bundle(
                tx, workspace, name, values, owner=call.author.id, account_id=account
            ),
        )
        return f"Saved as {name}: {_listed(values)}. Take it with sampling preset {name}."

    async def reset_sampling(self, call: CommandCall) -> str:
        place, whom = self._whom(call)
        await self._permit_for(call, place)
        await self._change(call, lambda tx, workspace, _: _clear(tx, workspace, place, SAMPLING))
        return f"Nothing is chosen for {whom} any more.\n{describe(await self._resolve(call), SAMPLING)}"

    async def show_settings(self, call: CommandCall) -> str:
        return f"The settings here, and where they come from:\n{describe(await self._resolve(call))}"

    async def set_setting(self, call: CommandCall) -> str:
        name, text = call.options["setting"].lower(), call.options["value"]
        _check(name, text)
        place, where = _where(call)
        await self._change(
            call, lambda tx, workspace, account: set_choice(tx, workspace, place, name, text, set_by=account)
        )
        return f"{name} is {text} now, for {where}."

    async def clear_setting(self, call: CommandCall) -> str:
        name = call.options["setting"].lower()
        if name not in SETTINGS:
            raise Refused(f"There is no setting {name!r}; there are {', '.join(SETTINGS)}.")
        place, where = _where(call)
        await self._change(call, lambda tx, workspace, _: _clear(tx, workspace, place, [name]))
        now = (await self._resolve(call)).get(name)
        held = f"{name} has no value here now." if now is None else describe({name: now})
        return f"Taken back for {where}. {held}"

    async def list_bundles(self, call: CommandCall) -> str:
        names = (await self.books.of(call.conversation)).bundles()
        return (
            f"Bundles: {', '.join(names)}." if names else "There is no bundle yet. Make one with bundle set."
        )

    async def show_bundle(self, call: CommandCall) -> str:
        name, values = self._bundle(await self.books.of(call.conversation), call)
        return "\n".join([f"{name} holds:", *(f"{setting}: {value}" for setting, value in values.items())])

    async def set_in_bundle(self, call: CommandCall) -> str:
        _refuse_beyond(call, "workspace")
        name = _new_name(call.options["name"])
        setting, text = call.options["setting"].lower(), call.options["value"]
        _check(setting, text)
        book = await self.books.of(call.conversation)
        if book.bundle(name) is None and len(book.bundles()) >= MOST_BUNDLES:
            raise Refused(
                f"There are {MOST_BUNDLES} bundles here, which is as many as I keep for one workspace."
            )
        values = {**(book.bundle(name) or {}), setting: text}
        await self._change(call, lambda tx, workspace, _: save_bundle(tx, workspace, name, values))
        return f"The bundle {name} holds {_listed(values)}."

    async def delete_bundle(self, call: CommandCall) -> str:
        _refuse_beyond(call, "workspace")
        name, _ = self._bundle(await self.books.of(call.conversation), call)
        await self._change(call, lambda tx, workspace, _: _ignore(delete_bundle(tx, workspace, name)))
        return f"The bundle {name} is deleted, and holds nowhere any more."

    async def bind_bundle(self, call: CommandCall) -> str:
        name, _ = self._bundle(await self.books.of(call.conversation), call)
        place, where = _where(call)
        await self._change(
            call,
            lambda tx, workspace, account: set_choice(tx, workspace, place, "bundle", name, set_by=account),
        )
        return f"The bundle {name} holds for {where} now."

    async def unbind_bundle(self, call: CommandCall) -> str:
        place, where = _where(call)
        await self._change(call, lambda tx, workspace, _: _clear(tx, workspace, place, ["bundle"]))
        return f"No bundle holds for {where} itself now."

    async def show_access(self, call: CommandCall) -> str:
        book = await self.books.of(call.conversation)
        needs: tuple[Need, ...] = ("chat", "command", "moderate", "administer")
        spot = spot_of(call)
        lines = [
            f"{need}: {'yes' if (may := book.permit(need, spot)).allowed else 'no'} ({may.because})"
            for need in needs
        ]
        rules = [
            f"{rule.kind} {rule.subject}".rstrip() + f": {'may' if rule.allow else 'may not'} {rule.need}"
            for rule in book.rules
        ]
        return "\n".join(
            ["What you may do here:", *lines, *(["Rules of this workspace:", *rules] if rules else [])]
        )

    async def allow(self, call: CommandCall) -> str:
        return await self._rule(call, allow=True)

    async def deny(self, call: CommandCall) -> str:
        return await self._rule(call, allow=False)

    async def clear_access(self, call: CommandCall) -> str:
        _refuse_beyond(call, "workspace")
        rule = _read_rule(call, allow=True)
        await self._change(
            call,
            lambda tx, workspace, _: _ignore(clear_rule(tx, workspace, rule.need, rule.kind, rule.subject)),
        )
        return f"There is no rule any more about {rule.need} for {_subject_words(rule)}."

    async def _rule(self, call: CommandCall, *, allow: bool) -> str:
        _refuse_beyond(call, "workspace")
        rule = _read_rule(call, allow=allow)
        await self._change(call, lambda tx, workspace, account: set_rule(tx, workspace, rule, set_by=account))
        return f"From now on {_subject_words(rule)} {'may' if allow else 'may not'}: {rule.need}."

    async def _choose_sampling(self, call: CommandCall, values: Mapping[str, str], what: str) -> str:
        place, whom = self._whom(call)
        await self._permit_for(call, place)
        chosen = await self._resolve(call)
        for name, text in values.items():
            fault = outside_limit(name, _check(name, text), chosen)
            if fault is not None:
                raise Refused(fault)

        def change(tx: Session, workspace: int, account: int) -> None:
            for name, text in values.items():
                set_choice(tx, workspace, place, name, text, set_by=account)

        await self._change(call, change)
        return f"{what} {_listed(values)} now, for {whom}."

    def _whom(self, call: CommandCall) -> tuple[Place, str]:
        match call.options.get("whom", "me"):
            case "channel":
                return ("channel", call.conversation.channel), "this channel"
            case "workspace":
                return ("workspace", ""), "this workspace"
        return ("person", call.author.id), "you"

    async def _permit_for(self, call: CommandCall, place: Place) -> None:
        """For oneself everybody may choose; for others, whoever may change settings."""
        if place[0] == "person":
            return
        _refuse_beyond(call, place[0])
        permission = (await self.books.of(call.conversation)).permit("administer", spot_of(call))
        if not permission.allowed:
            raise Refused(f"For others you may not choose this: {permission.because}.")

    def _bundle(self, book: Book, call: CommandCall) -> tuple[str, Mapping[str, str]]:
        name = call.options["name"]
        values = book.bundle(name)
        if values is None:
            known = ", ".join(book.bundles()) or "none yet"
            raise Refused(f"There is no bundle {name!r} here; there are: {known}.")
        return name, values

    async def _resolve(self, call: CommandCall) -> dict[str, Chosen]:
        return await self.books.resolve(spot_of(call), await self.engine.health())

    async def _change(self, call: CommandCall, change: Change) -> None:
        place = call.conversation

        def work(tx: Session) -> None:
            workspace = find_or_add_workspace(tx, place.platform, place.workspace)
            account = find_or_add_account(
                tx,
                platform=place.platform,
                workspace=place.workspace,
                external_id=call.author.id,
                name=call.author.name,
                is_bot=call.author.is_bot,
            )
            change(tx, workspace, account)

        await self.database.write(work)
        self.books.changed(place)


def spot_of(call: CommandCall) -> Spot:
    return Spot(call.conversation, call.author, call.category, call.private)


def _where(call: CommandCall) -> tuple[Place, str]:
    """The place that a choice is for: by default the thread or channel that it is made in."""
    place = call.conversation
    given = call.options.get("where", "thread" if place.thread and not call.private else "channel")
    _refuse_beyond(call, given)
    if given == "workspace":
        return ("workspace", ""), "this workspace"
    if given == "category" and call.category:
        return ("category", call.category), "this category"
    if given == "thread" and place.thread:
        return ("thread", place.thread), "this thread"
    if given == "channel":
        return ("channel", place.channel), "this channel"
    raise Refused(f"This is in no {given}.")


def _refuse_beyond(call: CommandCall, scope: str) -> None:
    """In a direct message everybody may choose, but for that conversation alone: not for the whole workspace, and not
    for everybody's direct messages."""
    if call.private and scope not in ("channel", "thread") and not call.author.manages:
        raise Refused("From here you can choose for this conversation alone.")


def _read_rule(call: CommandCall, *, allow: bool) -> StoredRule:
    try:
        kind, subject = read_subject(call.options["subject"], call.conversation.platform)
    except ValueError as error:
        raise Refused(str(error)) from None
    needs: dict[str, Need] = {
        "chat": "chat",
        "command": "command",
        "moderate": "moderate",
        "administer": "administer",
    }
    return StoredRule(needs[call.options["need"]], kind, subject, allow)


def _subject_words(rule: StoredRule) -> str:
    return "everyone" if rule.kind == "everyone" else f"the {rule.kind} {rule.subject}"


def _new_name(name: str) -> str:
    name = " ".join(name.split())
    if not 0 < len(name) <= LONGEST_NAME:
        raise Refused(f"A name has 1 to {LONGEST_NAME} characters.")
    return name


def _check(name: str, text: str) -> str | int | float | bool | tuple[str, ...]:
    try:
        return read_setting(name, text)
    except ValueError as error:
        raise Refused(str(error)) from None


def _listed(values: Mapping[str, str]) -> str:
    if len(values) == 1:
        [(name, value)] = values.items()
        return f"{value}" if name in SAMPLING else f"{name} = {value}"
    return ", ".join(f"{name} = {value}" for name, value in values.items())


def _clear(tx: Session, workspace: int, place: Place, names: tuple[str, ...] | list[str]) -> None:
    clear_choices(tx, workspace, place, names)


def _ignore(_: object) -> None:
    """A change that says whether it changed something, where that does not matter."""
