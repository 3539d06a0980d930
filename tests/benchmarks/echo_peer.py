"""A peer without torch and transformers: what a process of its own does is seen without waiting for them."""

import os
from collections.abc import Sequence

from benchmarks.engine_peer import PeerSettings, Prompt, Stream


class EchoPeer:
    def __init__(self, settings: PeerSettings) -> None:
        if settings.device != "cpu":
            raise ValueError(f"there is no {settings.device}")

    def describe(self) -> dict[str, object]:
        return {"wait": os.environ.get("OMP_WAIT_POLICY"), "process": os.getpid()}

    def decode(self, prompts: Sequence[Prompt], new_tokens: int) -> list[Stream]:
        return [Stream((0.0,), new_tokens, prompt.ids) for prompt in prompts]

    def answer(self, prompt: Prompt, new_tokens: int, conversation: str = "") -> Stream:
        raise LookupError(f"no answer to {len(prompt.ids)} tokens")

    def close(self) -> None:
        pass
