"""A tiny Whisper and a tiny BERT with tokenizers of their own, saved as transformers saves them."""

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    GenerationConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

_SPECIAL = (
    "endoftext startoftranscript en de translate transcribe startoflm startofprev nospeech notimestamps"
)
WORDS = ("well", "done", "i", "am", "so", "sorry", "wow", "##ed", ".", "!")


def whisper(path: Path, seed: int = 0) -> Path:
    """A Whisper with random weights that predicts words of a few letters. Its vocabulary is bytes."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = [f"<|{name}|>" for name in _SPECIAL.split()]
    names = {name: number for number, name in enumerate([*letters, *special])}
    tokenizer = WhisperTokenizer(vocab=dict(names), merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    tokenizer.add_tokens([AddedToken(f"<|{i * 0.02:.2f}|>", normalized=False) for i in range(1501)])
    end, start = names["<|endoftext|>"], names["<|startoftranscript|>"]
    torch.manual_seed(seed)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, pad_token_id=end, bos_token_id=end,
            eos_token_id=end, decoder_start_token_id=start, suppress_tokens=None, begin_suppress_tokens=None,
            init_std=0.5,
        )
    )  # fmt: skip
    spoken = {names[letter] for letter in "Ġabcdefghij"}
    model.generation_config = GenerationConfig(
        max_length=40, decoder_start_token_id=start, eos_token_id=end, pad_token_id=end, bos_token_id=end,
        suppress_tokens=[number for number in range(256) if number not in spoken],
        begin_suppress_tokens=[names["Ġ"], end], is_multilingual=True,
        lang_to_id={name: names[name] for name in ("<|en|>", "<|de|>")},
        task_to_id={name: names[f"<|{name}|>"] for name in ("transcribe", "translate")},
        no_timestamps_token_id=names["<|notimestamps|>"], alignment_heads=[[1, 0], [1, 1]],
        max_initial_timestamp_index=50, prev_sot_token_id=names["<|startofprev|>"], return_timestamps=False,
    )  # fmt: skip
    model.save_pretrained(path)
    extractor = WhisperFeatureExtractor(feature_size=80)
    WhisperProcessor(extractor, tokenizer).save_pretrained(path)
    extractor.save_pretrained(path)  # in a file of its own, as published ones have it
    return path


def bert(path: Path, seed: int = 0, family: str = "bert") -> Path:
    """A BERT or RoBERTa with random weights that knows WORDS."""
    names = {name: number for number, name in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS))}
    tokenizer = Tokenizer(models.WordPiece(names, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(path)
    torch.manual_seed(seed)
    config, model = (BertConfig, BertModel) if family == "bert" else (RobertaConfig, RobertaModel)
    model(
        config(
            vocab_size=len(names), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
            max_position_embeddings=12, pad_token_id=0,
        )
    ).save_pretrained(path)  # fmt: skip
    return path
