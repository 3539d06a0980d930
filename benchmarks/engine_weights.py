"""Random weights in the shape of a known model, as a folder that every peer loads, and the same as a GGUF file."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase

import torch
from safetensors.torch import load_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast, Qwen3Config
from transformers.utils import logging

CONTEXT = 40_960
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
ROLES = ["system", "user", "assistant"]
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool


SHAPES = {
    "qwen3-0.6b-shape": Shape(1024, 28, 16, 8, 128, 3072, 151_936, tied=True),
    "qwen3-8b-shape": Shape(4096, 36, 32, 8, 128, 12_288, 151_936, tied=False),
}


def make_folder(shape: Shape, folder: Path, *, device: str = "cpu", seed: int = 0) -> Path:
    """Weights in bfloat16, made on `device`, and a tokenizer with a word for every row."""
    logging.disable_progress_bar()
    make_tokenizer(shape.vocabulary).save_pretrained(folder)
    make_model(shape, device=device, seed=seed).save_pretrained(folder)
    return folder


def make_model(shape: Shape, *, device: str = "cpu", seed: int = 0) -> PreTrainedModel:
    """Random weights whose greedy replies neither end nor repeat: guessing at the next token gains nothing."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=shape.tied,
        initializer_range=0.64 / shape.hidden**0.5,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.device(device):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    unlikely = len(SPECIAL) + len(ROLES) + len(pre_tokenizers.ByteLevel.alphabet())
    with torch.no_grad():
        # Not 0: a tied row is read, too, and a prompt begins with one.
        model.get_output_embeddings().weight[:unlikely].mul_(0.01)
        for layer in model.model.layers:
            # The last token has to matter more than the many before it, or every step would choose the same.
            layer.self_attn.o_proj.weight.mul_(0.25)
            layer.mlp.down_proj.weight.mul_(4)
    return model


def make_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Capitalised words without spaces, one token each: a reply that is read again gives the tokens it was made of."""
    tokens = [*SPECIAL, *ROLES, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens += islice(_words(), vocabulary - len(tokens))
    tokenizer = Tokenizer(
        models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=[], ignore_merges=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[A-Z][a-z]+|[a-z]+|\s|."), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=CONTEXT,
    )
    fast.chat_template = CHATML
    return fast


def write_gguf(folder: Path, target: Path) -> Path:
    """The weights of a Qwen3-shaped folder for llama.cpp, matrices in BF16. It needs no tokenizer: tokens go in."""
    import gguf

    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] != "qwen3":
        raise ValueError(
            f"{folder.name} is a {config['model_type']}, and only qwen3 is written for llama.cpp."
        )
    writer = gguf.GGUFWriter(str(target), "qwen3")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, config["num_hidden_layers"])
    for name, tensor in _tensors(folder):
        there = names.get_name(name, try_suffixes=(".weight",))
        if there is None:
            raise ValueError(f"llama.cpp has no name for {name}.")
        if tensor.ndim == 1:
            writer.add_tensor(there, tensor.float().numpy())
        else:
            raw = tensor.to(torch.bfloat16).contiguous().view(torch.uint8).numpy()
            writer.add_tensor(there, raw, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for path in sorted(folder.glob("*.safetensors")):
        yield from load_file(path).items()


def _words() -> Iterator[str]:
    """Aaaa, Baaa, ... The first letter is a capital: it tells where a word begins."""
    for *rest, first in product(ascii_lowercase, ascii_lowercase, ascii_lowercase, ascii_uppercase):
        yield "".join([first, *rest])


if __name__ == "__main__":
    write_gguf(Path(sys.argv[1]), Path(sys.argv[2]))
