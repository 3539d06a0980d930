"""Slash commands, their options and choices, and the menus, from the registration to what the bot gets of them."""

from collections.abc import AsyncIterator
from typing import Any, Literal

import discord
import pytest
from discord import app_commands

from tests.fakes.discord_listener import Listener, listening
from tests.fakes.discord_places import Channel, Guild, Json, User
from tests.fakes.discord_server import FakeDiscord


class Chinese(app_commands.Translator):
    async def translate(
        self, string: app_commands.locale_str, locale: discord.Locale, context: object
    ) -> str | None:
        return string.extras.get("zh") if locale is discord.Locale.chinese else None


@pytest.fixture
async def fake() -> AsyncIterator[FakeDiscord]:
    async with FakeDiscord() as discord:
        yield discord


@pytest.fixture
def guild(fake: FakeDiscord) -> Guild:
    return fake.add_guild("Home")


@pytest.fixture
def channel(fake: FakeDiscord, guild: Guild) -> Channel:
    return fake.add_channel(guild, "general")


@pytest.fixture
def anna(fake: FakeDiscord) -> User:
    return fake.add_user("Anna")


class Bot(Listener):
    """With a group, and every kind of option. It answers with what it got."""

    def __init__(self) -> None:
        super().__init__()
        sampling = app_commands.Group(name="sampling", description="How answers are drawn")
        bundle = app_commands.Group(name="bundle", description="Bundles", parent=sampling)

        @sampling.command(name="set", description="Set one number")
        async def set_number(
            interaction: discord.Interaction,
            setting: Literal["temperature", "top_p"],
            value: app_commands.Range[float, 0, 2],
        ) -> None:
            await interaction.response.send_message(f"{setting} = {value}", ephemeral=True)

        @bundle.command(name="show", description="Show one")
        async def show(interaction: discord.Interaction, name: str, short: bool = False) -> None:
            await interaction.response.send_message(f"{name} {short}")

        @show.autocomplete("name")
        async def offer(interaction: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
            names = ["tulip", "tuna", "rose"]
            return [app_commands.Choice(name=n, value=n) for n in names if n.startswith(typed)]

        @self.tree.command(name="give", description="Give something")
        async def give(
            interaction: discord.Interaction,
            to: discord.Member,
            count: app_commands.Range[int, 1, 9],
            where: discord.TextChannel | None = None,
            role: discord.Role | None = None,
        ) -> None:
            await interaction.response.send_message(f"{count} to {to.display_name} in {where} as {role}")

        @self.tree.context_menu(name="Explain This")
        async def explain(interaction: discord.Interaction, message: discord.Message) -> None:
            await interaction.response.send_message(f"explained: {message.content}", ephemeral=True)

        @self.tree.context_menu(name="Greet")
        async def greet(interaction: discord.Interaction, user: discord.Member) -> None:
            await interaction.response.send_message(f"hello {user.display_name}")

        self.tree.add_command(sampling)


async def test_a_sub_command_of_a_group_gets_its_options(
    fake: FakeDiscord, channel: Channel, anna: User
) -> None:
    async with listening(fake, Bot()) as bot:
        await bot.tree.sync()
        given = await fake.use_command(channel, anna, "sampling set", setting="temperature", value="0.3")
        await fake.wait_for(lambda: given.original)
        assert given.original is not None
        assert (given.original.content, given.original.ephemeral) == ("temperature = 0.3", True)
        given = await fake.use_command(channel, anna, "sampling bundle show", name="tulip", short="true")
        await fake.wait_for(lambda: given.original)
        assert fake.answers(channel)[0].content == "tulip True"


async def test_people_roles_and_channels_are_resolved(
    fake: FakeDiscord, guild: Guild, channel: Channel, anna: User
) -> None:
    role = fake.add_role(guild, "Gardeners")
    async with listening(fake, Bot()) as bot:
        await bot.tree.sync()
        await fake.use_command(channel, anna, "give", to=anna, count=3, where=channel, role=role)
        await fake.wait_for(lambda: fake.answers(channel))
        assert fake.answers(channel)[0].content == "3 to Anna in general as Gardeners"


async def test_what_discords_client_would_not_send_fails_in_the_test(
    fake: FakeDiscord, channel: Channel, anna: User
) -> None:
    async with listening(fake, Bot()) as bot:
        await bot.tree.sync()
        wrong: list[tuple[str, dict[str, object], str]] = [
            ("nothing", {}, "'nothing' is not registered"),
            ("sampling", {}, "is a group of"),
            ("sampling get", {}, "has no sub-command 'get'"),
            ("sampling set", {"setting": "temperature"}, "needs"),
            ("sampling set", {"setting": "luck", "value": 1}, "offers"),
            ("sampling set", {"setting": "top_p", "value": 3}, "takes 0"),
            ("sampling set", {"setting": "top_p", "value": "much"}, "takes a number"),
            ("sampling set", {"setting": "top_p", "value": 1, "more": 1}, "has no option"),
            ("give", {"to": channel, "count": 1}, "does not take"),
        ]
        for name, options, reason in wrong:
            with pytest.raises(AssertionError, match=reason):
                await fake.use_command(channel, anna, name, **options)


async def test_what_is_typed_gets_choices(fake: FakeDiscord, channel: Channel, anna: User) -> None:
    async with listening(fake, Bot()) as bot:
        await bot.tree.sync()
        choices = await fake.autocomplete(channel, anna, "sampling bundle show", option="name", typed="tu")
        assert [choice["value"] for choice in choices] == ["tulip", "tuna"]
        with pytest.raises(AssertionError, match="offers nothing"):
            await fake.autocomplete(channel, anna, "sampling set", option="value", typed="1")


async def test_too_many_choices_are_refused(fake: FakeDiscord, channel: Channel, anna: User) -> None:
    bot, refused = Listener(), []

    @bot.tree.command(name="pick", description="Pick one")
    async def pick(interaction: discord.Interaction, name: str) -> None: ...

    @pick.autocomplete("name")
    async def offer(interaction: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
        names = [app_commands.Choice(name=str(number), value=str(number)) for number in range(26)]
        try:
            await interaction.response.autocomplete(names)
        except discord.HTTPException as error:
            refused.append(error.code)
        return names[:25]

    async with listening(fake, bot):
        await bot.tree.sync()
        assert len(await fake.autocomplete(channel, anna, "pick", option="name", typed="")) == 25
        assert refused == [50035]


async def test_menus_bring_the_message_or_the_person(fake: FakeDiscord, channel: Channel, anna: User) -> None:
    async with listening(fake, Bot()) as bot:
        await bot.tree.sync()
        message = await fake.say(channel, anna, "the text, although the bot lacks the intent")
        given = await fake.use_menu(message, anna, "Explain This")
        await fake.wait_for(lambda: given.original)
        assert given.original is not None
        assert given.original.content == "explained: the text, although the bot lacks the intent"
        ben = fake.add_user("Ben")
        await fake.use_menu(ben, anna, "Greet", place=channel)
        await fake.wait_for(lambda: fake.answers(channel))
        assert fake.answers(channel)[0].content == "hello Ben"
        with pytest.raises(AssertionError, match="is not registered"):
            await fake.use_menu(message, anna, "Greet")


async def test_a_command_can_ask_for_permissions_which_roles_give(
    fake: FakeDiscord, guild: Guild, channel: Channel, anna: User
) -> None:
    managers = fake.add_role(guild, "Managers", permissions=["MANAGE_GUILD"])
    boss = fake.join(guild, fake.add_user("Boss", locale="zh-CN"), roles=[managers])
    bot = Listener()

    @bot.tree.command(name="secret", description="For managers")
    @app_commands.default_permissions(manage_guild=True)
    async def secret(interaction: discord.Interaction) -> None:
        assert isinstance(interaction.user, discord.Member)
        may = (interaction.permissions.manage_guild, interaction.user.guild_permissions.manage_guild)
        roles = [role.name for role in interaction.user.roles]
        sends = interaction.app_permissions.send_messages
        await interaction.response.send_message(f"{may} {roles} {interaction.locale} {sends}")

    async with listening(fake, bot):
        await bot.tree.sync()
        with pytest.raises(AssertionError, match="is not shown to Anna"):
            await fake.use_command(channel, anna, "secret")
        await fake.use_command(channel, boss, "secret")
        await fake.wait_for(lambda: len(fake.answers(channel)) == 1)
        fake.show_command("secret", anna)
        channel.forbidden = {"SEND_MESSAGES"}
        await fake.use_command(channel, anna, "secret")
        await fake.wait_for(lambda: len(fake.answers(channel)) == 2)
        assert [answer.content for answer in fake.answers(channel)] == [
            "(True, True) ['@everyone', 'Managers'] zh-CN True",
            "(False, False) ['@everyone'] en-US False",
        ]


async def test_the_owner_and_administrators_may_everything(fake: FakeDiscord) -> None:
    boss = fake.add_user("Boss")
    guild = fake.add_guild("Home", owner=boss)
    admins = fake.add_role(guild, "Admins", permissions=["ADMINISTRATOR"])
    helper = fake.join(guild, fake.add_user("Helper"), roles=[admins])
    channel = fake.add_channel(guild, "general")
    async with listening(fake) as bot:
        for user in (boss, helper, fake.add_user("Anna")):
            await fake.say(channel, user, "hello")
        rights = []
        for _ in range(3):
            author = (await bot.heard.get()).author
            assert isinstance(author, discord.Member)
            rights.append(author.guild_permissions.manage_messages)
        assert rights == [True, True, False]


async def test_commands_have_names_in_other_languages(fake: FakeDiscord, guild: Guild) -> None:
    bot = Listener()
    words = app_commands.locale_str

    @bot.tree.command(name=words("chat", zh="聊天"), description=words("Ask", zh="提问"))
    async def chat(interaction: discord.Interaction) -> None: ...

    async with listening(fake, bot):
        await bot.tree.set_translator(Chinese())
        bot.tree.copy_global_to(guild=discord.Object(guild.id))
        await bot.tree.sync(guild=discord.Object(guild.id))
        [command] = fake.commands_in(guild)
        assert command["name_localizations"] == {"zh-CN": "聊天"}
        assert fake.commands == []


async def test_commands_of_one_workspace_are_used_there_alone(
    fake: FakeDiscord, guild: Guild, channel: Channel, anna: User
) -> None:
    bot = Listener()

    @bot.tree.command(name="here", description="Here", guild=discord.Object(guild.id))
    async def here(interaction: discord.Interaction) -> None:
        await interaction.response.send_message("here")

    async with listening(fake, bot):
        await bot.tree.sync(guild=discord.Object(guild.id))
        await fake.use_command(channel, anna, "here")
        await fake.wait_for(lambda: fake.answers(channel))
        with pytest.raises(AssertionError, match="is not registered"):
            await fake.use_command(fake.add_dm(anna), anna, "here")
        with pytest.raises(discord.Forbidden):
            await bot.tree.sync(guild=discord.Object(1))


async def test_a_command_that_is_registered_again_keeps_its_id(fake: FakeDiscord) -> None:
    async with listening(fake, Bot()) as bot:
        first = {command.name: command.id for command in await bot.tree.sync()}
        assert {command.name: command.id for command in await bot.tree.sync()} == first
        await (await bot.tree.fetch_command(first["give"])).delete()
        assert "give" not in [command["name"] for command in fake.commands]


def described(name: str, **more: Any) -> Json:
    return {"name": name, "description": "x", **more}


def option(name: str = "o", kind: int = 3, **more: Any) -> Json:
    return {"name": name, "description": "x", "type": kind, **more}


SUB = option("s", 1)
LONG = [{"name": f"{n:0100}", "value": "v" * 100} for n in range(11)]
FAULTY: list[tuple[str, list[Json]]] = [
    ("a capital", [described("Chat")]),
    ("a space", [described("no good")]),
    ("a long name", [described("n" * 33)]),
    ("no description", [{"name": "chat", "description": ""}]),
    ("a long description", [described("chat", description="x" * 101)]),
    ("a faulty translation", [described("chat", name_localizations={"zh-CN": "聊 天"})]),
    ("an unknown language", [described("chat", name_localizations={"xx": "chat"})]),
    ("a long translated description", [described("chat", description_localizations={"ja": "x" * 101})]),
    ("26 options", [described("chat", options=[option(f"o{n}") for n in range(26)])]),
    ("options of one name", [described("chat", options=[option(), option()])]),
    ("required last", [described("chat", options=[option("a"), option("b", required=True)])]),
    ("a sub-command beside an option", [described("chat", options=[SUB, option()])]),
    ("a group in a group", [described("c", options=[option("g", 2, options=[option("h", 2)])])]),
    ("an option in a group", [described("c", options=[option("g", 2, options=[option()])])]),
    ("26 choices", [described("c", options=[option(choices=[{"name": "n", "value": "v"}] * 26)])]),
    ("a long choice", [described("c", options=[option(choices=[{"name": "n" * 101, "value": "v"}])])]),
    ("a number for a text", [described("c", options=[option(choices=[{"name": "n", "value": 1}])])]),
    (
        "choices and completion",
        [described("c", options=[option(autocomplete=True, choices=[{"name": "n", "value": "v"}])])],
    ),
    ("a range for a text", [described("c", options=[option(min_value=1)])]),
    ("a menu with a description", [described("Explain", type=3)]),
    ("a menu with a long name", [{"name": "n" * 33, "type": 2}]),
    ("permissions by name", [described("chat", default_member_permissions="MANAGE_GUILD")]),
    ("two of one name", [described("chat"), described("chat")]),
    (
        "more than 8000 characters",
        [described("c", options=[option(f"o{n}", choices=LONG) for n in range(4)])],
    ),
]


@pytest.mark.parametrize(("fault", "commands"), FAULTY, ids=[fault for fault, _ in FAULTY])
async def test_faulty_definitions_are_refused(fake: FakeDiscord, fault: str, commands: list[Json]) -> None:
    async with listening(fake) as bot:
        with pytest.raises(discord.HTTPException) as caught:
            await bot.http.bulk_upsert_global_commands(fake.bot.id, commands)
        assert caught.value.code == 50035
        assert fake.commands == []


@pytest.mark.parametrize(("kind", "most"), [(1, 100), (2, 15), (3, 15)])
async def test_there_are_only_so_many_commands(fake: FakeDiscord, kind: int, most: int) -> None:
    commands: list[Any] = [
        {"name": f"c{n}", "type": kind, "description": "x" * (kind == 1)} for n in range(most + 1)
    ]
    async with listening(fake) as bot:
        await bot.http.bulk_upsert_global_commands(fake.bot.id, commands[:-1])
        with pytest.raises(discord.HTTPException) as caught:
            await bot.http.upsert_global_command(fake.bot.id, commands[-1])
        assert caught.value.code == 30032
        assert len(fake.commands) == most
