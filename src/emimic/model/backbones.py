"""Encoders of branches: models of transformers over images or text, from a folder or the hub, never pickled."""

from typing import Any

from emimic.task import ModelError


def load_pretrained(cls: Any, source: str, what: str) -> Any:
    """Load a model of transformers, and check that `source` has every weight that is used.

    Transformers initializes missing weights at random.

    Args:
        cls: the model's class.
        source: a folder, or a name on the hub.
        what: a description of the model for errors.

    Raises:
        ModelError: if it can't be loaded, or weights are missing.
    """
    try:
        model, info = cls.from_pretrained(
            source, use_safetensors=True, trust_remote_code=False, output_loading_info=True,
            ignore_mismatched_sizes=True,
        )  # fmt: skip
    except Exception as error:  # safetensors, JSON and hub errors have no other common base
        raise make_load_error(source, what, error) from error
    missing = set(info["missing_keys"])
    if poolers := {key for key in missing if key.startswith("pooler.")}:
        model.pooler = None  # its output is not used, and its random weights would differ at each start
        missing -= poolers
    if model.config.is_encoder_decoder:
        # Of an encoder-decoder only the encoder is used. Whisper's decoder, which is used, is called model.decoder.
        missing = {key for key in missing if not key.startswith("decoder.")}
    wrong = [
        *sorted(missing),
        *(
            f"{key} {(*shape,)} instead of {(*expected,)}"
            for key, shape, expected in sorted(info["mismatched_keys"])
        ),
    ]
    if wrong:
        raise ModelError(
            f"{source}: weights of {what} are missing, or have another shape: {', '.join(wrong[:6])}; take a complete "
            "checkpoint"
        )
    return model


def make_load_error(source: str, what: str, error: Exception) -> ModelError:
    """Return the error of a model that its library can't load."""
    return ModelError(f"{source} can't be loaded as {what}: {' '.join(str(error).split())[:300]}")
