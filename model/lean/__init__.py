"""The common decoder (Llama, Mistral, Qwen2, Qwen3) computed by plain functions, without transformers.

`find_lean` of `model.lean.model` is the way in; what it does not know is served by transformers' own code.
"""
