"""How people use the bot in the fake Discord: commands, menus, buttons, selects and modals.

What Discord's own client would not let a person do fails in the test, with an AssertionError.
"""

import secrets
from collections.abc import Iterator

from tests.fakes.discord_command_rules import CHAT_INPUT, GROUP, MESSAGE, SUB_COMMAND, USER
from tests.fakes.discord_components import (
    BUTTON,
    LINK,
    SELECTS,
    Modal,
    check_chosen,
    fill,
    find_component,
)
from tests.fakes.discord_options import read_options
from tests.fakes.discord_places import PERMISSIONS, Channel, Guild, Json, User
from tests.fakes.discord_state import AUTOCOMPLETE, COMPONENT, MODAL, Interaction, Message
from tests.fakes.discord_world import World


class Using(World):
    @property
    def commands(self) -> list[Json]:
        """Those for all workspaces."""
        return self.state.commands.get("", [])

    def commands_in(self, guild: Guild) -> list[Json]:
        """Those for this workspace alone."""
        return self.state.commands.get(str(guild.id), [])

    async def use_command(self, place: Channel, user: User, name: str, /, **options: object) -> Interaction:
        """Give a slash command, which must be registered and get the options that it asks for.

        `name` has the group and the sub-command in it. Texts are read as the options' kinds need it.
        """
        command, path = self._find_command(place, user, name)
        values, resolved = read_options(path[-1], options, place)
        data = {**_data(command), "options": _nested(path[1:], values)}
        if resolved:
            data["resolved"] = resolved
        return await self._send(Interaction(*self._new(), place, user, name, options, data=data))

    async def autocomplete(
        self, place: Channel, user: User, name: str, /, *, option: str, typed: str, **options: object
    ) -> list[Json]:
        """Type into an option; the choices that the bot offers. `options` are those that were filled before."""
        command, path = self._find_command(place, user, name)
        known = {defined["name"]: defined for defined in path[-1].get("options", [])}
        assert option in known, f"/{name} has no option {option!r}, but {list(known)}"
        assert known[option].get("autocomplete"), f"The option {option!r} of /{name} offers nothing"
        values, _ = read_options(path[-1], options, place, complete=False)
        values.append({"name": option, "type": known[option]["type"], "value": typed, "focused": True})
        data = {**_data(command), "options": _nested(path[1:], values)}
        asked = Interaction(*self._new(), place, user, name, known[option], AUTOCOMPLETE, data)
        await self._send(asked)
        await self.wait_for(lambda: asked.choices is not None)
        return asked.choices or []

    async def use_menu(
        self, target: Message | User, user: User, name: str, *, place: Channel | None = None
    ) -> Interaction:
        """Choose from the menu of a message, or of a person, whom the user sees in `place`."""
        kind, channel = (MESSAGE, target.channel) if isinstance(target, Message) else (USER, place)
        assert channel is not None, "A person's menu is opened in some place"
        command = self._find_registered(channel, user, name, kind)
        resolved = _resolved(target, channel, self.state.bot)
        data = {**_data(command), "target_id": str(target.id), "resolved": resolved}
        return await self._send(Interaction(*self._new(), channel, user, name, {}, data=data))

    def show_command(self, name: str, user: User) -> None:
        """As an administrator can do in a workspace's settings, whatever permissions the command asks for."""
        everywhere = [command for commands in self.state.commands.values() for command in commands]
        self.state.shown_to |= {(c["id"], user.id) for c in everywhere if c["name"] == name}

    async def press(self, message: Message, user: User, button: str) -> Interaction:
        """A button, by what is written on it or by its custom id."""
        found = find_component(message, button, (BUTTON,))
        assert found["style"] != LINK, f"{button!r} is a link, of which the bot hears nothing"
        return await self._use_component(message, user, found, {})

    async def choose(self, message: Message, user: User, select: str, /, *values: str) -> Interaction:
        """From a select, by its placeholder or its custom id."""
        found = find_component(message, select, SELECTS)
        check_chosen(found, values)
        return await self._use_component(message, user, found, {"values": list(values)})

    def modal_of(self, interaction: Interaction) -> Modal:
        assert interaction.modal is not None, f"{interaction.command!r} opened no modal"
        return Modal(interaction, interaction.modal)

    async def submit(self, modal: Modal, user: User, /, **values: str | list[str]) -> Interaction:
        """Send a modal with these values, by custom id or label; the others stay as they are."""
        opened_by = modal.opened_by
        assert user is opened_by.user, f"The modal was opened for {opened_by.user.name}"
        custom_id = modal.data["custom_id"]
        data = {"custom_id": custom_id, "components": fill(modal, values)}
        interaction = Interaction(*self._new(), opened_by.channel, user, custom_id, {}, MODAL, data)
        interaction.message, interaction.opened_by = opened_by.message, opened_by
        return await self._send(interaction)

    async def _use_component(self, message: Message, user: User, part: Json, data: Json) -> Interaction:
        assert not message.deleted, "The message is deleted"
        if message.ephemeral and message.interaction is not None:
            reader = message.interaction.user
            assert user is reader, f"Only {reader.name} sees the message"
        data = {"custom_id": part["custom_id"], "component_type": part["type"], "id": part["id"], **data}
        place, name = message.channel, part["custom_id"]
        return await self._send(
            Interaction(*self._new(), place, user, name, {}, COMPONENT, data, message=message)
        )

    def _find_command(self, place: Channel, user: User, name: str) -> tuple[Json, list[Json]]:
        """The command, and the definitions from it down to the one that is called."""
        first, *deeper = name.split()
        command = self._find_registered(place, user, first, CHAT_INPUT)
        path = [command]
        for word in deeper:
            inner = {option["name"]: option for option in _inner(path[-1])}
            assert word in inner, f"/{first} has no sub-command {word!r}, but {list(inner)}"
            path.append(inner[word])
        assert not list(_inner(path[-1])), f"/{name} is a group of {[o['name'] for o in _inner(path[-1])]}"
        return command, path

    def _find_registered(self, place: Channel, user: User, name: str, kind: int) -> Json:
        """A workspace's own command hides the global one of its name."""
        there = self.commands_in(place.guild) if place.guild else []
        registered = {c["name"]: c for c in (*self.commands, *there) if c.get("type", CHAT_INPUT) == kind}
        assert name in registered, f"{name!r} is not registered, but {list(registered)}"
        command = registered[name]
        context = 0 if place.guild else 1
        assert context in (command.get("contexts") or (0, 1)), f"{name!r} is not offered in such a place"
        shown = place.guild is None or (command.get("id", ""), user.id) in self.state.shown_to
        assert shown or _may(command, place.permissions_of(user)), (
            f"{name!r} is not shown to {user.name}, who lacks permissions"
        )
        return command

    def _new(self) -> tuple[int, str]:
        return self.state.next_id(), secrets.token_urlsafe(32)

    async def _send(self, interaction: Interaction) -> Interaction:
        self.state.interactions[interaction.token] = interaction
        await self.gateway.dispatch("INTERACTION_CREATE", 0, lambda _: interaction.wire(self.state.bot))
        return interaction


def _inner(command: Json) -> Iterator[Json]:
    return (option for option in command.get("options", []) if option["type"] in (SUB_COMMAND, GROUP))


def _may(command: Json, granted: int) -> bool:
    """Without any bit a command is the administrators' alone."""
    if (asked := command.get("default_member_permissions")) is None:
        return True
    needed = int(asked) or PERMISSIONS["ADMINISTRATOR"]
    return granted & needed == needed


def _data(command: Json) -> Json:
    return {key: command[key] for key in ("id", "name", "type", "guild_id") if key in command}


def _nested(path: list[Json], values: list[Json]) -> list[Json]:
    for definition in reversed(path):
        values = [{"name": definition["name"], "type": definition["type"], "options": values}]
    return values


def _resolved(target: Message | User, channel: Channel, bot: User) -> Json:
    """The message is readable, whatever the intents."""
    if isinstance(target, Message):
        return {"messages": {str(target.id): target.wire(bot, message_content=True)}}
    resolved: Json = {"users": {str(target.id): target.wire()}}
    if channel.guild is not None:
        member = {**channel.guild.member_wire(target), "permissions": str(channel.permissions_of(target))}
        resolved["members"] = {str(target.id): member}
    return resolved
