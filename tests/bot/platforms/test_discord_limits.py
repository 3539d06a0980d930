"""Our own limit for Discord, by a clock that the test moves."""

import aiohttp
import pytest
from aiohttp import web

from bot.platforms.discord_limits import EVERYWHERE, Limiter


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> Limiter:
    return Limiter(a_second=10, at_once=6, now=clock, sleep=clock.sleep)


async def test_the_first_few_go_at_once_and_the_others_one_after_another(
    limiter: Limiter, clock: Clock
) -> None:
    for _ in range(9):
        await limiter.turn()
    assert clock.slept == pytest.approx([0.1, 0.2, 0.3])


async def test_a_bucket_fills_again_but_never_over_its_edge(limiter: Limiter, clock: Clock) -> None:
    for _ in range(6):
        await limiter.turn()
    clock.now += 60
    for _ in range(7):
        await limiter.turn()
    assert clock.slept == pytest.approx([0.1])


async def test_no_second_has_more_requests_than_discord_allows(clock: Clock) -> None:
    limiter = Limiter(now=clock, sleep=clock.sleep)
    for _ in range(200):
        await limiter.turn()
    at = [0.0] * (200 - len(clock.slept)) + clock.slept
    assert max(sum(begin <= moment < begin + 1 for moment in at) for begin in at) <= 45


def test_a_preview_is_left_out_before_anything_has_to_wait(limiter: Limiter, clock: Clock) -> None:
    assert [limiter.take_if_free() for _ in range(5)] == [True, True, True, True, False]
    clock.now += 0.05
    assert [limiter.take_if_free() for _ in range(2)] == [True, False]


async def test_a_preview_is_left_out_while_others_wait(limiter: Limiter, clock: Clock) -> None:
    for _ in range(10):
        await limiter.turn()
    clock.now += 0.5
    assert not limiter.take_if_free(share=0)


def test_a_limit_holds_for_its_channel_until_it_is_over(limiter: Limiter, clock: Clock) -> None:
    limiter.note_limit("1", 5.0)
    limiter.note_limit("1", 2.0)
    assert (limiter.seconds_limited("1"), limiter.seconds_limited("2")) == (5.0, 0.0)
    clock.now += 6
    assert limiter.seconds_limited("1") == 0.0


def test_a_limit_for_everything_holds_in_every_channel(limiter: Limiter) -> None:
    limiter.note_limit(EVERYWHERE, 3.0)
    assert limiter.seconds_limited("1") == 3.0


@pytest.mark.parametrize(
    ("headers", "limited"),
    [
        ({"Retry-After": "4"}, (4.0, 0.0)),
        ({"Retry-After": "4", "X-RateLimit-Global": "true"}, (4.0, 4.0)),
        ({"Retry-After": "soon"}, (1.0, 0.0)),
    ],
)
async def test_the_limits_that_the_library_sits_out_are_heard_of(
    limiter: Limiter, headers: dict[str, str], limited: tuple[float, float]
) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=429, headers=headers)

    app = web.Application()
    app.router.add_post("/api/v10/channels/1/messages", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession(trace_configs=[limiter.trace()]) as session:
        port = runner.addresses[0][1]
        await session.post(f"http://127.0.0.1:{port}/api/v10/channels/1/messages")
    await runner.cleanup()
    assert (limiter.seconds_limited("1"), limiter.seconds_limited("2")) == limited
