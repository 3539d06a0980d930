import asyncio

from bot.turn_order import TurnOrder


async def test_turns_of_one_conversation_follow_each_other_in_the_order_of_arrival() -> None:
    order = TurnOrder()
    ended: list[int] = []

    async def turn(number: int) -> None:
        async with order.turn("a"):
            for _ in range(3):
                await asyncio.sleep(0)
            ended.append(number)

    await asyncio.gather(*(turn(number) for number in range(5)))
    assert ended == [0, 1, 2, 3, 4]


async def test_turns_of_different_conversations_run_side_by_side() -> None:
    order = TurnOrder()
    both_inside = asyncio.Barrier(2)

    async def turn(conversation: str) -> None:
        async with order.turn(conversation):
            await both_inside.wait()

    async with asyncio.timeout(5):
        await asyncio.gather(turn("a"), turn("b"))


async def test_a_conversation_that_is_over_leaves_nothing_behind_even_when_cancelled() -> None:
    order = TurnOrder()
    async with order.turn("a"):
        waiting = asyncio.create_task(order.turn("a").__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert order._locks == {}
    assert order._waiting == {}
