"""Buttons, selects and modals in the fake Discord, with the views of the real discord.py."""

from collections.abc import AsyncIterator

import discord
import pytest

from tests.fakes.discord_components import BUTTON, ROW, TEXT_INPUT
from tests.fakes.discord_listener import listening
from tests.fakes.discord_places import Channel, Json, User
from tests.fakes.discord_server import FakeDiscord
from tests.fakes.discord_state import REPLY


@pytest.fixture
async def fake() -> AsyncIterator[FakeDiscord]:
    async with FakeDiscord() as discord:
        yield discord


@pytest.fixture
def channel(fake: FakeDiscord) -> Channel:
    return fake.add_channel(fake.add_guild("Home"), "general")


@pytest.fixture
def anna(fake: FakeDiscord) -> User:
    return fake.add_user("Anna")


class Correction(discord.ui.Modal, title="Correct me"):
    text: discord.ui.TextInput["Correction"] = discord.ui.TextInput(
        label="Better", custom_id="text", min_length=2, max_length=9
    )
    why: discord.ui.Label["Correction"] = discord.ui.Label(
        text="Why",
        component=discord.ui.Select(
            custom_id="why", options=[discord.SelectOption(label="Wrong"), discord.SelectOption(label="Rude")]
        ),
    )
    note: discord.ui.Label["Correction"] = discord.ui.Label(
        text="Note", component=discord.ui.TextInput(custom_id="note", required=False, default="as it was")
    )

    async def on_submit(self, interaction: discord.Interaction) -> None:
        assert isinstance(self.why.component, discord.ui.Select)
        assert isinstance(self.note.component, discord.ui.TextInput)
        chosen, note = self.why.component.values, self.note.component.value
        content = f"{self.text.value} {chosen} {note}"
        if interaction.message is None:
            await interaction.response.send_message(content, ephemeral=True)
        else:
            await interaction.response.edit_message(content=content, view=None)


class Controls(discord.ui.View):
    """One button for each way to respond."""

    def __init__(self) -> None:
        super().__init__(timeout=None)
        self.pressed: list[str] = []

    @discord.ui.button(label="Tell", custom_id="tell")
    async def tell(self, interaction: discord.Interaction, button: "discord.ui.Button[Controls]") -> None:
        assert interaction.message is not None
        await interaction.response.send_message(f"told of {interaction.message.content}")

    @discord.ui.button(label="Update", emoji="🔁")
    async def update(self, interaction: discord.Interaction, button: "discord.ui.Button[Controls]") -> None:
        button.disabled = True
        await interaction.response.edit_message(content="updated", view=self)

    @discord.ui.button(label="Later")
    async def later(self, interaction: discord.Interaction, button: "discord.ui.Button[Controls]") -> None:
        await interaction.response.defer()
        await interaction.edit_original_response(content="updated later")
        await interaction.followup.send("and more", ephemeral=True)

    @discord.ui.button(label="Think")
    async def think(self, interaction: discord.Interaction, button: "discord.ui.Button[Controls]") -> None:
        await interaction.response.defer(thinking=True, ephemeral=True)
        await interaction.edit_original_response(content="thought", view=Controls())

    @discord.ui.button(label="Correct")
    async def correct(self, interaction: discord.Interaction, button: "discord.ui.Button[Controls]") -> None:
        await interaction.response.send_modal(Correction())

    @discord.ui.select(
        placeholder="A colour",
        max_values=2,
        options=[discord.SelectOption(label="Red", value="r"), discord.SelectOption(label="Blue", value="b")],
    )
    async def colour(self, interaction: discord.Interaction, select: "discord.ui.Select[Controls]") -> None:
        await interaction.response.send_message(f"chosen {select.values}")


async def test_a_button_is_answered_by_a_message_in_reply(
    fake: FakeDiscord, channel: Channel, anna: User
) -> None:
    async with listening(fake) as bot:
        await bot.place(channel).send("the answer", view=Controls())
        [message] = fake.answers(channel)
        await fake.press(message, anna, "Tell")
        await fake.press(message, anna, "tell")
        await fake.wait_for(lambda: len(fake.answers(channel)) == 3)
        told = fake.answers(channel)[1]
        assert (told.content, told.kind, told.reply_to) == ("told of the answer", REPLY, message.id)


async def test_a_button_can_change_its_message_and_itself(
    fake: FakeDiscord, channel: Channel, anna: User
) -> None:
    async with listening(fake) as bot:
        await bot.place(channel).send("the answer", view=Controls())
        [message] = fake.answers(channel)
        given = await fake.press(message, anna, "🔁")
        await fake.wait_for(lambda: given.acknowledged)
        assert message.shown == ["the answer", "updated"]
        with pytest.raises(AssertionError, match="is disabled"):
            await fake.press(message, anna, "Update")
        given = await fake.press(message, anna, "Later")
        await fake.wait_for(lambda: given.followups)
        assert message.content == "updated later"
        assert (given.original, given.followups[0].ephemeral) == (message, True)


async def test_the_buttons_of_an_ephemeral_message_are_its_readers(
    fake: FakeDiscord, channel: Channel, anna: User
) -> None:
    async with listening(fake) as bot:
        await bot.place(channel).send("the answer", view=Controls())
        given = await fake.press(fake.answers(channel)[0], anna, "Think")
        await fake.wait_for(lambda: given.original and given.original.content)
        private = given.original
        assert private is not None
        assert (private.content, private.ephemeral, len(private.components)) == ("thought", True, 2)
        again = await fake.press(private, anna, "Update")
        await fake.wait_for(lambda: again.acknowledged)
        assert private.content == "updated"
        assert fake.answers(channel) == [fake.answers(channel)[0]]
        with pytest.raises(AssertionError, match="Only Anna sees"):
            await fake.press(private, fake.add_user("Ben"), "Tell")


async def test_a_select_brings_what_was_chosen(fake: FakeDiscord, channel: Channel, anna: User) -> None:
    async with listening(fake) as bot:
        await bot.place(channel).send("the answer", view=Controls())
        [message] = fake.answers(channel)
        await fake.choose(message, anna, "A colour", "b", "r")
        await fake.wait_for(lambda: len(fake.answers(channel)) == 2)
        assert fake.answers(channel)[1].content == "chosen ['b', 'r']"
        with pytest.raises(AssertionError, match="is not offered"):
            await fake.choose(message, anna, "A colour", "g")
        with pytest.raises(AssertionError, match="0 chosen"):
            await fake.choose(message, anna, "A colour")


async def test_a_modal_is_filled_and_changes_the_message_of_its_button(
    fake: FakeDiscord, channel: Channel, anna: User
) -> None:
    async with listening(fake) as bot:
        await bot.place(channel).send("the answer", view=Controls())
        [message] = fake.answers(channel)
        given = await fake.press(message, anna, "Correct")
        await fake.wait_for(lambda: given.modal)
        modal = fake.modal_of(given)
        assert (modal.title, [f["label"] for f in modal.fields]) == ("Correct me", ["Better", "Why", "Note"])
        await fake.submit(modal, anna, text="so", Why="Rude")
        await fake.wait_for(lambda: message.content != "the answer")
        assert (message.content, message.components) == ("so ['Rude'] as it was", [])


async def test_a_modal_takes_only_what_fits(fake: FakeDiscord, channel: Channel, anna: User) -> None:
    async with listening(fake) as bot:
        await bot.place(channel).send("the answer", view=Controls())
        given = await fake.press(fake.answers(channel)[0], anna, "Correct")
        await fake.wait_for(lambda: given.modal)
        modal = fake.modal_of(given)
        with pytest.raises(AssertionError, match="takes 2 to 9"):
            await fake.submit(modal, anna, text="far too long", why="Rude")
        with pytest.raises(AssertionError, match="must be filled"):
            await fake.submit(modal, anna, why="Rude")
        with pytest.raises(AssertionError, match="has no field"):
            await fake.submit(modal, anna, text="so", why="Rude", more="?")
        with pytest.raises(AssertionError, match="opened for Anna"):
            await fake.submit(modal, fake.add_user("Ben"), text="so", why="Rude")


async def test_a_command_opens_a_modal_which_is_answered(
    fake: FakeDiscord, channel: Channel, anna: User
) -> None:
    async with listening(fake) as bot:

        @bot.tree.command(name="correct", description="Correct")
        async def correct(interaction: discord.Interaction) -> None:
            await interaction.response.send_modal(Correction())

        await bot.tree.sync()
        given = await fake.use_command(channel, anna, "correct")
        await fake.wait_for(lambda: given.modal)
        sent = await fake.submit(fake.modal_of(given), anna, text="so", why="Wrong", note="")
        await fake.wait_for(lambda: sent.original)
        assert sent.original is not None
        assert (sent.original.content, sent.original.ephemeral) == ("so ['Wrong']", True)


async def test_what_is_not_on_a_message_cannot_be_pressed(
    fake: FakeDiscord, channel: Channel, anna: User
) -> None:
    async with listening(fake) as bot:
        view = discord.ui.View()
        view.add_item(discord.ui.Button(label="Read", url="https://example.org"))
        await bot.place(channel).send("the answer", view=view)
        [message] = fake.answers(channel)
        with pytest.raises(AssertionError, match="is a link"):
            await fake.press(message, anna, "Read")
        with pytest.raises(AssertionError, match=r"no 'Stop' on the message; there are \['Read'\]"):
            await fake.press(message, anna, "Stop")


async def test_a_layout_of_the_newer_components_has_buttons_too(
    fake: FakeDiscord, channel: Channel, anna: User
) -> None:
    async with listening(fake) as bot:
        view = discord.ui.LayoutView()
        button: discord.ui.Button[discord.ui.LayoutView] = discord.ui.Button(label="Go")
        view.add_item(discord.ui.Container(discord.ui.TextDisplay("text"), discord.ui.ActionRow(button)))
        await bot.place(channel).send(view=view)
        given = await fake.press(fake.messages(channel)[0], anna, "Go")
        assert given.command == button.custom_id


def row(*parts: Json) -> Json:
    return {"type": ROW, "components": list(parts)}


def button(**changed: object) -> Json:
    return {"type": BUTTON, "style": 1, "label": "Go", "custom_id": "go", **changed}


def select(options: int = 1, **changed: object) -> Json:
    offered = [{"label": str(number), "value": str(number)} for number in range(options)]
    return {"type": 3, "custom_id": "s", "options": offered, **changed}


FAULTY: list[tuple[str, list[Json]]] = [
    ("six rows", [row(button(custom_id=str(number))) for number in range(6)]),
    ("six buttons", [row(*(button(custom_id=str(number)) for number in range(6)))]),
    ("an empty row", [row()]),
    ("a button without a row", [button()]),
    ("a button beside a select", [row(button(), select())]),
    ("one custom id twice", [row(button(), button())]),
    ("a long custom id", [row(button(custom_id="x" * 101))]),
    ("a long label", [row(button(label="x" * 81))]),
    ("neither label nor emoji", [row(button(label=None))]),
    ("a link with a custom id", [row(button(style=5, url="https://example.org"))]),
    ("an unknown style", [row(button(style=9))]),
    ("26 options", [row(select(26))]),
    ("no options", [row(select(0))]),
    ("more to choose than there are", [row(select(2, max_values=3))]),
    ("a text input", [row({"type": TEXT_INPUT, "custom_id": "t", "style": 1, "label": "x"})]),
]


@pytest.mark.parametrize(("fault", "components"), FAULTY, ids=[fault for fault, _ in FAULTY])
async def test_faulty_components_are_refused(
    fake: FakeDiscord, channel: Channel, fault: str, components: list[Json]
) -> None:
    async with listening(fake) as bot:
        params = discord.http.MultipartParameters({"content": "x", "components": components}, None, None)
        with pytest.raises(discord.HTTPException) as caught:
            await bot.http.send_message(channel.id, params=params)
        assert caught.value.code == 50035


@pytest.mark.parametrize(
    "modal",
    [
        Correction(title="x" * 46),
        Correction(custom_id="x" * 101),
        discord.ui.Modal(title="empty"),
        discord.ui.Modal(title="a long label").add_item(discord.ui.TextInput(label="x" * 46)),
        discord.ui.Modal(title="too long").add_item(discord.ui.TextInput(label="x", max_length=4001)),
    ],
    ids=lambda modal: modal.title[:12],
)
async def test_faulty_modals_are_refused(
    fake: FakeDiscord, channel: Channel, anna: User, modal: discord.ui.Modal
) -> None:
    refused = []
    async with listening(fake) as bot:

        @bot.tree.command(name="correct", description="Correct")
        async def correct(interaction: discord.Interaction) -> None:
            with pytest.raises(discord.HTTPException) as caught:
                await interaction.response.send_modal(modal)
            refused.append(caught.value.code)
            await interaction.response.send_message("refused")

        await bot.tree.sync()
        given = await fake.use_command(channel, anna, "correct")
        await fake.wait_for(lambda: given.acknowledged)
        assert (refused, given.modal) == ([50035], None)


async def test_each_kind_of_interaction_has_its_responses(
    fake: FakeDiscord, channel: Channel, anna: User
) -> None:
    codes = []
    async with listening(fake) as bot:

        @bot.tree.command(name="hi", description="Hi")
        async def hi(interaction: discord.Interaction) -> None:
            callback = f"{fake.api_url}/interactions/{interaction.id}/{interaction.token}/callback"
            for kind in (6, 7, 8):
                async with interaction._session.post(callback, json={"type": kind}) as answer:
                    codes.append((await answer.json())["code"])
            await interaction.response.send_message("hi")

        await bot.tree.sync()
        await fake.use_command(channel, anna, "hi")
        await fake.wait_for(lambda: fake.answers(channel))
        assert codes == [50035] * 3
