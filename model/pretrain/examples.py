"""From documents to tokens: what a stage sees, and which of it is learnt. Knows no model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from model.chat_format import ChatFormat
from model.pretrain.corpus import Dialogue, Document, Text
from model.pretrain.personas import dress
from model.pretrain.tokenizer import END_OF_TEXT

Example = tuple[list[int], list[bool]]


@dataclass(frozen=True, slots=True)
class Examples:
    """Token sequences end to end: the i-th is `ids[starts[i]:starts[i + 1]]`; `learnt` marks the tokens to learn."""

    ids: NDArray[np.int32]
    learnt: NDArray[np.bool_]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.starts)


def encode_documents(
    documents: Sequence[Document], tokenizer: PreTrainedTokenizerBase, context: int
) -> list[Example]:
    """Texts cut into pieces of at most `context` tokens; dialogues, cut off there, with their replies marked."""
    chat = ChatFormat(tokenizer)
    examples: list[Example] = []
    for document in documents:
        if isinstance(document, Text):
            examples += _encode_text(document, tokenizer, context)
        else:
            examples.append(_encode_dialogue(document, chat, context))
    return examples


def _encode_text(document: Text, tokenizer: PreTrainedTokenizerBase, context: int) -> Iterable[Example]:
    # A control token that merely stands in the text is text.
    ids = tokenizer.encode(document.text, add_special_tokens=False, split_special_tokens=True, verbose=False)
    ids.append(tokenizer.convert_tokens_to_ids(END_OF_TEXT))
    # One token of overlap, or the first token of each piece would be learnt by none.
    for start in range(0, max(1, len(ids) - 1), context - 1):
        piece = ids[start : start + context]
        yield piece, [False] * len(piece)


def _encode_dialogue(document: Dialogue, chat: ChatFormat, context: int) -> Example:
    ids, learnt = chat.render_dialogue(dress(document).messages)
    return ids[:context], learnt[:context]


def language_modelling(examples: Iterable[Example]) -> Examples:
    """Stage 1: every token of everything."""
    return _join((ids, [True] * len(ids)) for ids, _ in examples)


def replies_only(examples: Iterable[Example]) -> Examples:
    """Stage 2: of the dialogues, what the assistant says."""
    return _join(examples)


def _join(examples: Iterable[Example]) -> Examples:
    kept = [example for example in examples if any(example[1][1:])]
    lengths = [len(ids) for ids, _ in kept]
    return Examples(
        ids=np.fromiter((token for ids, _ in kept for token in ids), np.int32),
        learnt=np.fromiter((flag for _, learnt in kept for flag in learnt), np.bool_),
        starts=np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))).astype(np.int64),
    )
