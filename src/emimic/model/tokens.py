"""Tokens of the text branch, without torch: an exported model tokenizes, too."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer


def make_tokenizer(text: str, max_tokens: int) -> Any:
    """Return the tokenizer of its JSON, which cuts after `max_tokens` tokens and does not pad."""
    tokenizer = Tokenizer.from_str(text)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def tokenize(tokenizer: Any, text: str | None) -> NDArray[np.int64]:
    """Return the ids of a text's tokens, (token,); none of a missing or blank text."""
    ids = tokenizer.encode(text).ids if text and text.strip() else []
    return np.array(ids, np.int64)
