"""What transformers' `generate` writes, and the same by a runner that gets its prompts in any order of pieces."""

import random

import torch
from transformers import PreTrainedModel

from model.engine.runner import Feed, Runner
from tests.model.engine.architectures import VOCABULARY

NEW_TOKENS = 24


def prompts() -> list[list[int]]:
    order = random.Random(1)
    return [[order.randrange(VOCABULARY) for _ in range(length)] for length in (5, 40, 23, 7)]


def generated(model: PreTrainedModel, prompt: list[int]) -> list[int]:
    """By transformers, with the attention that is written out."""
    model.set_attn_implementation("eager")
    whole = model.generate(
        torch.tensor([prompt]),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    tokens: list[int] = whole[0].tolist()
    return tokens


def decode_greedily(runner: Runner, texts: list[list[int]], order: random.Random) -> None:
    """Extend `texts` by NEW_TOKENS each; prompts go in in pieces, who takes part in a pass is drawn."""
    goals = [len(text) + NEW_TOKENS for text in texts]
    places = [runner.open(text, None) for text in texts]
    while any(len(text) < goal for text, goal in zip(texts, goals, strict=True)):
        feeds: dict[int, Feed] = {}
        for index, (text, goal, place) in enumerate(zip(texts, goals, places, strict=True)):
            if len(text) < goal and order.random() < 0.8:
                missing = text[place.length :]
                piece = missing[: order.randint(1, 9)]
                feeds[index] = Feed(place, piece, scored=int(len(piece) == len(missing)))
        if feeds:
            chosen = iter(runner.forward(list(feeds.values())).argmax(-1).tolist())
            for index, feed in feeds.items():
                if feed.scored:
                    texts[index].append(next(chosen))
    for place in places:
        runner.close(place)
