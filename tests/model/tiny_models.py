"""Tiny random models, made on the spot: Llama-, Qwen3- and GPT-2-shaped, with tokenizers of a few hundred tokens."""

from functools import cache
from pathlib import Path
from typing import Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# What Qwen3 does with reasoning: the last reply is written with an (empty) thought, earlier ones without.
QWEN3 = (
    "{% for message in messages %}"
    "{% if message.role == 'assistant' and loop.last %}"
    "{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' + message.content + '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)
# What Gemma does: no system role, strict alternation, trimmed contents.
STRICT = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content | trim + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# What Mistral does: a system message at the start only, replies that follow plain text.
INSTRUCT = (
    "{{ bos_token }}"
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content + '\n\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"
    "{% for message in rest %}"
    "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('After the optional system message, conversation roles must alternate') }}{% endif %}"
    "{% if message.role == 'user' %}{{ '[INST] ' + (system if loop.first else '') + message.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + message.content.strip() + eos_token }}{% endif %}"
    "{% endfor %}"
)
TEMPLATES = {"chatml": CHATML, "qwen3": QWEN3, "strict": STRICT, "instruct": INSTRUCT, "plain": None}

Shape = Literal["llama", "qwen3", "gpt2"]
CONTEXT = 2048
CHAT_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>"]
LINES = [
    "Hello there! How are you today? I am well, thank you, and you?",
    "Parley is a chatbot that a community runs on its own machine.",
    "User: What is the time? Assistant: It is noon.\n\nsystem user assistant",
    "我喜欢在晴朗的日子里骑自行车。你好，今天天气怎么样？",
]


@cache
def _backend(size: int) -> Tokenizer:
    """A byte-level BPE tokenizer, as GPT-2, Llama 3 and Qwen have."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=CHAT_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return tokenizer


def make_tokenizer(template: str | None = CHATML, *, size: int = 320) -> PreTrainedTokenizerBase:
    """A fresh tokenizer; None makes it a base model's, whose only special token is the end of text."""
    backend = Tokenizer.from_str(_backend(size).to_str())
    chat = template is not None
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>" if chat else "<|endoftext|>",
        bos_token="<s>" if chat else "<|endoftext|>",
    )
    if chat:
        tokenizer.chat_template = template
        tokenizer.add_tokens(["<think>", "</think>"])  # known to the vocabulary, yet not special, as in Qwen3
    return tokenizer


def make_model(shape: Shape = "llama", *, vocabulary: int = 322, seed: int = 0) -> PreTrainedModel:
    """Random weights, wide enough apart that greedy decoding does not repeat one token.

    Replies go on up to their limit: the special tokens, which stand first in the vocabulary, are unlikely.
    """
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(_config(shape, vocabulary)).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight[: len(CHAT_TOKENS)] = 0
    return model


def save_tiny(folder: Path, shape: Shape = "llama") -> Path:
    """A complete model folder. GPT-2 is a base model: it has no chat template."""
    templates = {"llama": CHATML, "qwen3": QWEN3, "gpt2": None}
    make_model(shape).save_pretrained(folder)
    make_tokenizer(templates[shape]).save_pretrained(folder)
    return folder


def _config(shape: Shape, vocabulary: int) -> PretrainedConfig:
    common = {"vocab_size": vocabulary, "initializer_range": 0.4, "bos_token_id": None, "eos_token_id": None}
    if shape == "gpt2":
        return GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=CONTEXT, **common)
    config = LlamaConfig if shape == "llama" else Qwen3Config
    return config(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=CONTEXT,
        **common,
    )
