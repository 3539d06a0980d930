"""Small random models of many architectures. Knows transformers' configurations, no engine."""

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3_5TextConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    SmolLM3Config,
)

VOCABULARY = 322
_NO_TOKENS = {"bos_token_id": None, "eos_token_id": None}
_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.4,
    "pad_token_id": 0,
    **_NO_TOKENS,
}
_WITH_HEAD = {**_SHAPE, "head_dim": 8}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}

BATCHED: dict[str, PretrainedConfig] = {
    "Llama": LlamaConfig(**_WITH_HEAD),
    "Qwen2": Qwen2Config(**_SHAPE),
    "Qwen3": Qwen3Config(**_WITH_HEAD),
    "Qwen3 with experts": Qwen3MoeConfig(**_WITH_HEAD, **_EXPERTS),
    "Mistral with a sliding window": MistralConfig(**_WITH_HEAD, sliding_window=16),
    "Gemma 2 with bounded scores": Gemma2Config(**_WITH_HEAD, sliding_window=16, query_pre_attn_scalar=8),
    "Gemma 3": Gemma3TextConfig(**_WITH_HEAD, sliding_window=16, query_pre_attn_scalar=8),
    "Phi 3": Phi3Config(**_SHAPE),
    "SmolLM 3": SmolLM3Config(**_SHAPE),
    "OLMo 2": Olmo2Config(**_SHAPE),
    "GPT-2": GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=3,
        n_head=4,
        n_positions=512,
        initializer_range=0.4,
        **_NO_TOKENS,
    ),
}
SINGLE: dict[str, PretrainedConfig] = {
    "Qwen3.5 with linear attention": Qwen3_5TextConfig(
        **{**_WITH_HEAD, "num_hidden_layers": 4},
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
    ),
    "GPT-OSS with attention sinks": GptOssConfig(**_WITH_HEAD, sliding_window=16, num_local_experts=4),
}


def build(config: PretrainedConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval()
    return model
