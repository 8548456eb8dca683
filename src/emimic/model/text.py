"""The text branch: a transformers text encoder over the words of a clip, pooled to one vector (section 7).

A clip's sequence is its tokens' ids, (token,). A model folder holds the tokenizer, inside its configuration.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoTokenizer

from emimic.model.backbones import load_pretrained, make_load_error
from emimic.model.branches import Branch
from emimic.model.tokens import make_tokenizer, tokenize
from emimic.task import ModelError, SettingsError

_POSITIONS_AFTER_PADDING = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer"}
)
"""Families that reserve positions up to the padding's index."""

_TINY = 3
"""Tokens of a text of one word, with those at its ends."""


def make_config(settings: Any) -> dict[str, Any]:
    """Return what builds the branch: the encoder's configuration, the tokenizer as JSON, pooling and limits.

    Args:
        settings: of the group `text`.

    Raises:
        ModelError: if the encoder or the tokenizer can't be read.
        SettingsError: if no tokenizer is named.
    """
    config = _read_config(settings)
    tokenizer, limit = _read_tokenizer(settings)
    limit = int(min(settings.max_tokens, limit, count_positions(config)))
    if limit < _TINY:
        raise ModelError(f"the text encoder takes {limit} tokens; expected {_TINY} or more: take another")
    padding = getattr(config, "pad_token_id", None)
    return {
        "encoder_config": config.to_diff_dict() | {"model_type": config.model_type},
        "tokenizer": tokenizer,
        "padding": 0 if padding is None else int(padding),
        "max_tokens": limit,
        "pool": settings.pool,
        "freeze": settings.freeze,
        "dropout": settings.dropout,
        "transcriber": settings.transcriber,
        "language": settings.language,
    }


def build(config: dict[str, Any]) -> "Text":
    """Return the branch of a configuration of `make_config`, with random weights."""
    return Text(config)


class Text(Branch):
    """A text encoder, and the mean over its last hidden states or the first of them (CLS)."""

    def __init__(self, config: dict[str, Any]) -> None:
        settings = dict(config["encoder_config"])
        inner = AutoConfig.for_model(settings.pop("model_type"), **settings)
        super().__init__(int(inner.hidden_size), dropout=config["dropout"], freeze=config["freeze"])
        self.backbone = _strip(AutoModel.from_config(inner))
        self.pool, self.padding = config["pool"], config["padding"]
        self._tokenizer = make_tokenizer(config["tokenizer"], config["max_tokens"])

    def tokenize(self, text: str | None) -> NDArray[np.int64]:
        """Return the ids of a text's tokens, (token,), of a long one the first; none without words."""
        return tokenize(self._tokenizer, text)

    def encode(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return vectors (batch, width) of ids (batch, token) and mask (batch, token); each clip has a token."""
        ids = torch.where(mask, values.long(), self.padding)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            hidden: Tensor = self.backbone(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        if self.pool == "cls":
            return hidden[:, 0]
        real = mask[..., None].to(hidden.dtype)
        return (hidden * real).sum(dim=1) / real.sum(dim=1)

    def fill(self, settings: Any) -> None:
        """Load the pre-trained weights that the settings name. Raises ModelError."""
        if settings.encoder is None:
            return
        loaded = _strip(load_pretrained(AutoModel, settings.encoder, "a text encoder"))
        self.backbone.load_state_dict(loaded.state_dict())


def count_positions(config: Any) -> float:
    """Return the maximum number of tokens of a text encoder."""
    positions = getattr(config, "max_position_embeddings", None)
    if not positions or positions < 0:
        return np.inf
    reserved = config.model_type in _POSITIONS_AFTER_PADDING
    return float(positions - (config.pad_token_id + 1 if reserved else 0))


def _strip(model: Any) -> Any:
    """Return the encoder of a model, without a pooler, whose output is not used."""
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model


def _read_config(settings: Any) -> Any:
    if settings.encoder is None:
        values = dict(settings.encoder_config)
        if "model_type" not in values:
            raise SettingsError("text.encoder_config has no model_type; expected one, such as bert")
        return AutoConfig.for_model(values.pop("model_type"), **values)
    try:
        return AutoConfig.from_pretrained(settings.encoder, trust_remote_code=False)
    except Exception as error:  # JSON and hub errors have no other common base
        raise make_load_error(settings.encoder, "a text encoder", error) from error


def _read_tokenizer(settings: Any) -> tuple[str, float]:
    """Return a tokenizer's JSON, and the maximum number of tokens that it knows of."""
    source = settings.tokenizer or settings.encoder
    if source is None:
        raise SettingsError(
            "text has an encoder_config and no tokenizer: name one (text.tokenizer), a folder or a name on the hub"
        )
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # JSON and hub errors have no other common base
        raise make_load_error(source, "a tokenizer", error) from error
    if not tokenizer.is_fast:
        raise ModelError(
            f"{source} has no fast tokenizer (tokenizer.json), which a run can hold: take another"
        )
    return tokenizer.backend_tokenizer.to_str(), float(tokenizer.model_max_length)
