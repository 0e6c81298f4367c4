"""A network that is not asked twice: the rows of a sweep begin alike.

Rows that differ in the start step of their guidance share the noise x_T, and so every state up to
the earlier of the two starts. There ε_θ gets the very question of the row before.
"""

import hashlib
from collections import OrderedDict

import torch
from torch import Tensor

from guidance.arguments import ConditionalPredictor

MOST_BYTES = 2**28  # of answers that are kept


def remembering(eps: ConditionalPredictor, most_bytes: int = MOST_BYTES) -> ConditionalPredictor:
    """eps, with its answers kept; what was asked for bit by bit before is answered from these.

    Beyond most_bytes those that were wanted longest ago are forgotten.
    """
    answers: OrderedDict[bytes, Tensor] = OrderedDict()
    kept = 0

    def answer(x_t: Tensor, t: Tensor, c: Tensor) -> Tensor:
        nonlocal kept
        question = hashlib.blake2b(digest_size=16)
        for tensor in (x_t, t, c):
            question.update(tensor.cpu().contiguous().view(torch.uint8).numpy().data)
        key = question.digest()
        if key not in answers:
            answers[key] = eps(x_t, t, c)
            kept += answers[key].nbytes
        answers.move_to_end(key)
        found = answers[key]
        while kept > most_bytes:
            kept -= answers.popitem(last=False)[1].nbytes
        return found

    return answer
