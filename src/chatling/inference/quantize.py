"""Weights in eight bits: half the memory of bf16, and half the bytes that decoding reads."""

import logging

from torch import nn

from chatling.errors import MachineError
from chatling.model.gpt import GPT

HEAD = "lm_head"


def quantize(model: GPT) -> None:
    """Round the blocks' matrices to int8 in place, one scale a row (torchao, weights only).
    Embeddings and head stay as they are, since they are most sensitive and not read by a product of
    torchao's.

    Raises MachineError without torchao.
    """
    for noisy in (
        "torchao",
        "torch.utils._pytree",
    ):  # lists of the GPU kernels that a processor's torch does not have
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise MachineError("torchao is not installed.", "pip install 'chatling[int8]'") from error
    quantize_(
        model,
        Int8WeightOnlyConfig(),
        filter_fn=lambda module, name: isinstance(module, nn.Linear) and name != HEAD,
    )
