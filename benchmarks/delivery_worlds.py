"""The fake Discord and the fake Slack as the delivery benchmark uses them: places to talk in, and what stands there."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Protocol, Self
from urllib.parse import urlsplit

from benchmarks.delivery_check import Said, Shown
from tests.fakes import faults_discord, faults_slack
from tests.fakes.discord_server import FakeDiscord
from tests.fakes.discord_state import THREAD, Channel, Message, User
from tests.fakes.faults import Faults
from tests.fakes.proxy import Proxy
from tests.fakes.slack_server import BOT_SCOPES, FakeSlack

READING = ("channels:read", "groups:read", "im:read")


class World(Protocol):
    """A fake platform in which things go wrong."""

    name: ClassVar[str]
    faults: Faults

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def port(self) -> int: ...

    def go_through(self, proxy: Proxy) -> None:
        """The bot is to come by this way. Before `environment` is read."""
        ...

    def environment(self) -> Mapping[str, str]: ...

    @property
    def connected(self) -> bool: ...

    async def open_places(self, number: int) -> list[Said]:
        """One question in each place, numbered from `number`, so that the bot knows them all."""
        ...

    async def say(self, number: int) -> Said:
        """Somebody says something somewhere."""
        ...

    def shown(self) -> list[Shown]: ...

    def forget_killed(self) -> None: ...

    def acknowledged(self, since: float) -> set[str]:
        """Ids of messages to the bot that were handed to it after `since`, by the loop's clock, and acknowledged."""
        ...


class DiscordWorld:
    name: ClassVar[str] = "discord"

    def __init__(self, seed: int) -> None:
        self.faults = Faults(seed)
        self._random = random.Random(seed + 1)
        self._discord = FakeDiscord(limit=200)
        faults_discord.make_faulty(self._discord, self.faults)
        guild = self._discord.add_guild("Home")
        self._people = [self._discord.add_user(name) for name in ("Anna", "Ben", "Chen")]
        self._program = self._discord.add_user("Feed", bot=True)
        channels = [self._discord.add_channel(guild, name) for name in ("general", "tea")]
        thread = Channel(self._discord.state.next_id(), "aside", THREAD, guild=guild, parent=channels[0])
        self._open = [*channels, self._discord.state.add_channel(thread)]
        self._dms = [self._discord.add_dm(person) for person in self._people[:2]]

    async def __aenter__(self) -> Self:
        await self._discord.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.faults.stop()
        await self._discord.__aexit__()

    @property
    def port(self) -> int:
        return urlsplit(self._discord.api_url).port or 0

    def go_through(self, proxy: Proxy) -> None:
        self._discord.address = proxy.address
        self._discord.gateway.url = self._discord.gateway_url

    def environment(self) -> Mapping[str, str]:
        return {
            "DISCORD_TOKEN": self._discord.token,
            "DISCORD_API_URL": self._discord.api_url,
            "DISCORD_GATEWAY_URL": self._discord.gateway_url,
            "DISCORD_CDN_URL": self._discord.cdn_url,
        }

    @property
    def connected(self) -> bool:
        return self._discord.connected

    async def open_places(self, number: int) -> list[Said]:
        places = [*self._open, *self._dms]
        return [await self._ask(number + index, place) for index, place in enumerate(places)]

    async def say(self, number: int) -> Said:
        place = self._random.choice([*self._open, *self._open, *self._dms])
        dice = self._random.random()
        if place in self._dms or dice < 0.75:
            return await self._ask(number, place)
        answers = self._discord.answers(place)
        if dice < 0.87 and answers:
            return await self._tell(number, place, self._someone(), "and q{}?", reply_to=answers[-1])
        if dice < 0.95:
            return await self._tell(number, place, self._someone(), "just talking, q{}", addressed=False)
        feed = f"{self._discord.bot.mention} news q{{}}"
        return await self._tell(number, place, self._program, feed, addressed=False)

    async def _ask(self, number: int, place: Channel) -> Said:
        if place.recipient is not None:
            return await self._tell(number, place, place.recipient, "what is q{}?")
        return await self._tell(number, place, self._someone(), f"{self._discord.bot.mention} what is q{{}}?")

    async def _tell(
        self,
        number: int,
        place: Channel,
        person: User,
        words: str,
        *,
        addressed: bool = True,
        reply_to: Message | None = None,
    ) -> Said:
        message = await self._discord.say(place, person, words.format(number), reply_to=reply_to)
        return Said(number, str(message.id), str(place.id), addressed)

    def _someone(self) -> User:
        return self._random.choice(self._people)

    def shown(self) -> list[Shown]:
        standing = [m for place in [*self._open, *self._dms] for m in self._discord.answers(place)]
        return [Shown(str(m.channel.id), m.content) for m in sorted(standing, key=lambda m: m.id)]

    def forget_killed(self) -> None:
        assert isinstance(self._discord.gateway, faults_discord.FaultyGateway)
        self._discord.gateway.forget_killed()

    def acknowledged(self, since: float) -> set[str]:
        """A gateway's events are not."""
        return set()


@dataclass(frozen=True, slots=True)
class SlackThread:
    channel: str
    ts: str


class SlackWorld:
    name: ClassVar[str] = "slack"

    def __init__(self, seed: int) -> None:
        self.faults = Faults(seed)
        self._random = random.Random(seed + 1)
        self._slack = FakeSlack(scopes=(*BOT_SCOPES, *READING))
        faults_slack.make_faulty(self._slack, self.faults)
        self._people = [self._slack.add_user(name) for name in ("ada", "ben", "chen")]
        self._program = self._slack.add_user("feed", bot=True)
        self._channels = [self._slack.add_channel("general"), self._slack.add_channel("tea", private=True)]
        self._dms = {self._slack.open_dm(person): person for person in self._people[:2]}
        self._known: list[SlackThread] = []
        """Threads that the bot takes part in: what is said there is said to it."""
        self._threads: list[SlackThread] = []
        self._addressed: set[str] = set()
        self._proxy: Proxy | None = None

    async def __aenter__(self) -> Self:
        await self._slack.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.faults.stop()
        await self._slack.__aexit__(kind, error, trace)

    @property
    def port(self) -> int:
        return urlsplit(self._slack.api_url).port or 0

    def go_through(self, proxy: Proxy) -> None:
        """The address of the socket follows the one that it is asked for by."""
        self._proxy = proxy

    def environment(self) -> Mapping[str, str]:
        url = f"http://{self._proxy.address}/api/" if self._proxy else self._slack.api_url
        return {
            "SLACK_BOT_TOKEN": self._slack.bot_token,
            "SLACK_APP_TOKEN": self._slack.app_token,
            "SLACK_API_URL": url,
        }

    @property
    def connected(self) -> bool:
        return bool(self._slack.socket.sockets)

    async def open_places(self, number: int) -> list[Said]:
        said = [await self._tell(number + i, dm, "what is q{}?") for i, dm in enumerate(self._dms)]
        for channel in self._channels * 2:
            said.append(await self._mention(number + len(said), channel))
            self._known.append(SlackThread(channel, said[-1].message_id))
        return said

    async def say(self, number: int) -> Said:
        dice = self._random.random()
        if dice < 0.25:
            return await self._tell(number, self._random.choice(list(self._dms)), "what is q{}?")
        if dice < 0.5:
            return await self._tell(number, self._random.choice(self._known), "and what is q{}?")
        channel = self._random.choice(self._channels)
        if dice < 0.65 and self._threads:
            thread = self._random.choice(self._threads)
            return await self._tell(number, thread, f"<@{self._slack.bot_user}> and q{{}}?")
        if dice < 0.88:
            return await self._mention(number, channel)
        if dice < 0.95:
            return await self._tell(number, channel, "just talking, q{}", addressed=False)
        words = f"<@{self._slack.bot_user}> news q{{}}"
        return await self._tell(number, channel, words, person=self._program, addressed=False)

    async def _mention(self, number: int, channel: str) -> Said:
        """At the top of a channel it begins a thread."""
        said = await self._tell(number, channel, f"<@{self._slack.bot_user}> what is q{{}}?")
        self._threads.append(SlackThread(channel, said.message_id))
        return Said(number, said.message_id, f"{channel}/{said.message_id}", addressed=True)

    async def _tell(
        self,
        number: int,
        place: str | SlackThread,
        words: str,
        *,
        person: str | None = None,
        addressed: bool = True,
    ) -> Said:
        channel = place if isinstance(place, str) else place.channel
        thread = None if isinstance(place, str) else place.ts
        speaker = person or self._dms.get(channel) or self._random.choice(self._people)
        ts = await self._slack.say(channel, speaker, words.format(number), thread=thread)
        if addressed:
            self._addressed.add(ts)
        return Said(number, ts, f"{channel}/{thread or ''}", addressed)

    def shown(self) -> list[Shown]:
        standing = [
            m for m in self._slack.state.all_messages if m.user == self._slack.bot_user and not m.deleted
        ]
        return [Shown(f"{m.channel}/{m.thread or ''}", m.text) for m in standing]

    def forget_killed(self) -> None:
        """Its socket is closed, which is all that Slack sees."""

    def acknowledged(self, since: float) -> set[str]:
        envelopes = self._slack.socket.envelopes
        late = [one for one in envelopes if one.acked and one.sent_at is not None and one.sent_at > since]
        return {str(one.payload.get("event", {}).get("ts")) for one in late} & self._addressed


WORLDS: Mapping[str, type[DiscordWorld] | type[SlackWorld]] = {"discord": DiscordWorld, "slack": SlackWorld}
