"""Text embeddings: a text encoder of transformers over the transcripts, one frame per token, or one per clip.

A token's time is the center of its word. `pool=mean` is the mean over all tokens, as in sentence-transformers;
`pool=cls` is the first token of the encoder's last layer, as GTE and BERT classifiers take it.
"""

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from emimic.data.corpus_settings import Numbers
from emimic.data.split_tables import get_clip_key
from emimic.data.transcripts import Transcript, read_all
from emimic.features import encoder_cache, store
from emimic.features.extractor import Clip, Job, Work, collect_facts, describe_source, write_each
from emimic.features.networks import make_clip_error, read_license
from emimic.model.backbones import load_pretrained, make_load_error
from emimic.model.text import count_positions
from emimic.task import CorpusError, ModelError


class Settings(Numbers):
    """Settings of text embeddings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    transcripts: str = Field("transcripts", description="features with the transcripts")
    pool: Literal["none", "mean", "cls"] = Field(
        "none", description="one frame per token; or one per clip: the mean of all tokens, or the first (CLS)"
    )
    max_tokens: int = Field(512, ge=3, description="maximum; longer transcripts are cut, with a warning")


def plan(job: Job, settings: Settings) -> list[Work]:
    """Return the work for one folder of embeddings."""
    source = job.require_model("intfloat/e5-small-v2")
    transcripts_folder = job.folder / store.FOLDER / settings.transcripts
    transcripts = read_all(transcripts_folder)
    if not transcripts:
        raise CorpusError(f"{transcripts_folder} holds no transcripts; make them with --kind transcripts")
    encoder = _Encoder(source, job.device, settings, job.notes)
    folder = job.get_folder()
    facts = collect_facts(
        job,
        settings,
        "torch",
        "transformers",
        weights=encoder_cache.digest_weights(encoder.model),
        license=read_license(source),
        source=describe_source(transcripts_folder),
    )
    clips = [Clip(transcript.id, job.folder) for transcript in transcripts.values()]

    def make(clip: Clip) -> store.Sequence:
        try:
            return encoder.encode(transcripts[get_clip_key(clip.id)])
        except (RuntimeError, ValueError, IndexError) as error:  # one clip must not stop all others
            raise make_clip_error(source, error) from error

    return [Work(folder, facts, clips, write_each(make, folder, 1), notes=job.notes)]


class _Encoder:
    def __init__(self, source: str, device: str | None, settings: Settings, notes: list[str]) -> None:
        self.notes = notes
        from transformers import AutoModel, AutoTokenizer

        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        except Exception as error:  # JSON and hub errors have no other common base
            raise make_load_error(source, "a text encoder", error) from error
        model = load_pretrained(AutoModel, source, "a text encoder")
        if not self.tokenizer.is_fast:
            raise ModelError(f"{source} has no fast tokenizer, which gives the tokens' offsets: take another")
        model = model.get_encoder() if model.config.is_encoder_decoder else model
        self.model = model.eval().to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        limits = (settings.max_tokens, self.tokenizer.model_max_length, count_positions(model.config))
        self.limit, self.pool = int(min(limits)), settings.pool

    @torch.inference_mode()
    def encode(self, transcript: Transcript) -> store.Sequence:
        """Return the embeddings of a transcript; without words, one frame, which is not present."""
        text = transcript.text
        if not text.strip():
            empty = np.zeros((1, self.model.config.hidden_size), np.float32)
            return store.Sequence(empty, np.zeros(1), np.zeros(1, np.bool_))
        tokens = self.tokenizer(
            text, truncation=True, max_length=self.limit, return_offsets_mapping=True, return_special_tokens_mask=True,
            return_overflowing_tokens=False,
        )  # fmt: skip
        ids = torch.tensor([tokens["input_ids"]], device=self.model.device)
        hidden = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
        offsets = np.array(tokens["offset_mapping"])
        if offsets.max() < len(text.rstrip()):
            self.notes.append(
                f"{transcript.id}: only the first {self.limit} tokens of its transcript are used"
            )
        values = hidden.float().cpu().numpy()
        if self.pool != "none":
            center = (transcript.words[0].start + transcript.words[-1].end) / 2
            pooled = values.mean(axis=0, keepdims=True) if self.pool == "mean" else values[:1]
            return store.Sequence.from_frames(pooled, np.array([center]))
        real = ~np.array(tokens["special_tokens_mask"], np.bool_) & (offsets[:, 1] > offsets[:, 0])
        return store.Sequence.from_frames(values[real], _compute_times(transcript, offsets[real]))


def _compute_times(transcript: Transcript, offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the center in seconds of the word in which each token ends: (token,).

    Args:
        transcript: the words.
        offsets: (token, 2), start and end of each token in characters of the text.
    """
    ends = np.cumsum([len(word.word) for word in transcript.words])
    words = np.searchsorted(ends, offsets[:, 1])
    centers = np.array([(word.start + word.end) / 2 for word in transcript.words])
    return centers[words]
