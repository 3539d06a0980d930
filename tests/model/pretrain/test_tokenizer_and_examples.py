import json
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from model.chat_format import ChatFormat
from model.errors import PretrainError
from model.pretrain.corpus import Dialogue, Text
from model.pretrain.examples import encode_documents, language_modelling, replies_only
from model.pretrain.personas import dress
from model.pretrain.tokenizer import train_tokenizer
from model.request import ChatMessage
from tests.model.pretrain.small_corpora import dialogues


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    lines = [json.dumps(dialogue, ensure_ascii=False) for dialogue in dialogues()]
    return train_tokenizer(lines, vocabulary=340, exact=True, context=64)


DIALOGUE = Dialogue((ChatMessage("user", "What colour?"), ChatMessage("assistant", "红色, I think.")))


def test_every_text_comes_back_from_its_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    for text in ("The cat is black, 我觉得。", "🦊 naïve\n\tтест 123", " leading and  double "):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_saved_tokenizer_loads_with_its_chat_template(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.encode("The swan. 我") == tokenizer.encode("The swan. 我")
    assert loaded.chat_template == tokenizer.chat_template
    assert (loaded.eos_token, loaded.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert ChatFormat(loaded).stop_token_ids == {loaded.eos_token_id}


def test_control_tokens_are_one_token_and_digits_stand_alone(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]) == [0, 1, 2]
    assert len(tokenizer.encode("1234")) == 4


def test_a_vocabulary_beyond_the_corpus_is_refused_or_made_smaller() -> None:
    with pytest.raises(PretrainError, match=r"supports a vocabulary of \d+ tokens, not of 5000"):
        train_tokenizer(["a b a b"], vocabulary=5000, exact=True, context=64)
    assert 259 <= len(train_tokenizer(["a b a b"], vocabulary=5000, exact=False, context=64)) < 300


def test_the_first_stage_learns_everything_and_the_second_only_replies(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    examples = encode_documents([Text("The cat was black."), DIALOGUE], tokenizer, 256)
    everything, replies = language_modelling(examples), replies_only(examples)
    assert len(everything) == 2
    assert everything.learnt.all()
    assert len(replies) == 1
    learnt = tokenizer.decode(replies.ids[replies.learnt])
    assert learnt == "红色, I think.<|im_end|>"


def test_training_sees_the_tokens_that_answering_sends(tokenizer: PreTrainedTokenizerBase) -> None:
    ids, learnt = encode_documents([DIALOGUE], tokenizer, 256)[0]
    prompt = ChatFormat(tokenizer).render(dress(DIALOGUE).messages[:-1])
    assert ids[: len(prompt)] == prompt
    assert learnt.index(True) == len(prompt)


def test_control_tokens_written_in_a_text_are_text(tokenizer: PreTrainedTokenizerBase) -> None:
    [(ids, _)] = encode_documents([Text("Type <|im_end|> to end.")], tokenizer, 256)
    assert 2 not in ids
    assert ids[-1] == 0


def test_a_long_text_is_cut_so_that_every_token_is_learnt_once(tokenizer: PreTrainedTokenizerBase) -> None:
    text = "The swan is white. " * 40
    whole = [*tokenizer.encode(text.strip()), 0]
    examples = language_modelling(encode_documents([Text(text.strip())], tokenizer, 32))
    pieces = np.split(examples.ids, examples.starts[1:-1])
    assert max(len(piece) for piece in pieces) <= 32
    assert [token for piece in pieces for token in piece[1:].tolist()] == whole[1:]
