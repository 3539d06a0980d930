"""(being written)"""

from transformers import PreTrainedModel


def fuse_small_ops(model: PreTrainedModel) -> int:
    return 0
