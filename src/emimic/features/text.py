"""What the words mean: a transformers text encoder over the transcripts, a frame a token, or one for the clip.

A token's time is the middle of its word's. The mean over all tokens, as sentence-transformers takes it, is `pool=mean`.
"""

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from emimic.data.corpus_settings import Numbers
from emimic.data.split_tables import clip_key
from emimic.features import encoder_cache, store
from emimic.features.extractor import Clip, Job, Work, each, facts, maker
from emimic.features.networks import cannot_load, fails, licence, pretrained
from emimic.features.transcripts import Transcript, read_all
from emimic.task import CorpusError, ModelError


class Settings(Numbers):
    """Of which transcripts, and how much of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    transcripts: str = Field("transcripts", description="features that hold them")
    pool: Literal["none", "mean"] = Field("none", description="a frame a token, or the mean of all")
    max_tokens: int = Field(512, ge=3, description="longer transcripts are cut, with a warning")


def plan(job: Job, settings: Settings) -> list[Work]:
    """One folder of embeddings."""
    source = job.need_model("intfloat/e5-small-v2")
    spoken = job.folder / store.FOLDER / settings.transcripts
    said = read_all(spoken)
    if not said:
        raise CorpusError(f"{spoken} holds no transcripts; make them with --kind transcripts")
    reader = _Reader(source, job.device, settings, job.notes)
    place = job.place()
    known = facts(
        job,
        settings,
        "torch",
        "transformers",
        weights=encoder_cache.weights(reader.model),
        licence=licence(source),
        source=maker(spoken),
    )
    chosen = [Clip(transcript.id, job.folder) for transcript in said.values()]

    def make(clip: Clip) -> store.Sequence:
        try:
            return reader.read(said[clip_key(clip.id)])
        except (RuntimeError, ValueError, IndexError) as error:  # one clip must not cost the corpus
            raise fails(source, error) from error

    return [Work(place, known, chosen, each(make, place, 1), notes=job.notes)]


class _Reader:
    def __init__(self, source: str, device: str | None, settings: Settings, notes: list[str]) -> None:
        self.notes = notes
        from transformers import AutoModel, AutoTokenizer

        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        except Exception as error:  # JSON and hub errors share no other base
            raise cannot_load(source, "a text encoder", error) from error
        model = pretrained(AutoModel, source, "a text encoder")
        if not self.tokenizer.is_fast:
            raise ModelError(
                f"{source} has no fast tokenizer, which says where in the text a token is: take another"
            )
        model = model.get_encoder() if model.config.is_encoder_decoder else model
        self.model = model.eval().to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        limits = (settings.max_tokens, self.tokenizer.model_max_length, _positions(model))
        self.limit, self.pool = int(min(limits)), settings.pool

    @torch.inference_mode()
    def read(self, transcript: Transcript) -> store.Sequence:
        """A clip in which nothing was said has one frame, which is not present."""
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
        if self.pool == "mean":
            middle = (transcript.words[0].start + transcript.words[-1].end) / 2
            return store.Sequence.whole(values.mean(axis=0, keepdims=True), np.array([middle]))
        real = ~np.array(tokens["special_tokens_mask"], np.bool_) & (offsets[:, 1] > offsets[:, 0])
        return store.Sequence.whole(values[real], _times(transcript, offsets[real]))


def _positions(model: Any) -> float:
    """Tokens a text encoder has positions for; RoBERTa keeps those up to its padding's number to itself."""
    positions = getattr(model.config, "max_position_embeddings", None) or np.inf
    padded = model.config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet")
    return positions - (model.config.pad_token_id + 1 if padded else 0)


def _times(transcript: Transcript, offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Middle of the word in which each token ends, (token,); offsets (token, 2) count letters of the text."""
    ends = np.cumsum([len(word.word) for word in transcript.words])
    words = np.searchsorted(ends, offsets[:, 1])
    middles = np.array([(word.start + word.end) / 2 for word in transcript.words])
    return middles[words]
