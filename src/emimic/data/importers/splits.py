"""Speakers for validation, for corpora that publish no split."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping

from emimic.task import CorpusError

FRACTION = 5
"""One speaker in five is in the validation split by default."""


def choose_speakers(genders: Mapping[str, str], corpus: str, n: int | None = None) -> frozenset[str]:
    """Return the speakers of the validation split: `n`, by default a fifth (rounded, at least one).

    Each gender has its proportion of `n` (largest remainders, ties in order of names). Within a gender speakers are
    chosen in order of SHA-256 of "CORPUS/SPEAKER": the same everywhere, and independent of the other speakers.

    Args:
        genders: speaker -> gender, "" for unknown.
        corpus: name of the corpus.
        n: number of speakers; 0 for none.

    Raises:
        CorpusError: no speaker would remain for training.
    """
    n = max(1, round(len(genders) / FRACTION)) if n is None else n
    if not 0 <= n < len(genders):
        raise CorpusError(
            f"{corpus}: found {len(genders)} speakers, {n} of them for validation; expected 0 or more, and one to "
            "train on. Import more of the corpus, or give fewer (--valid-speakers 0: no validation split)"
        )
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for speaker, gender in genders.items():
        groups[gender].append(speaker)
    parts = {gender: divmod(n * len(groups[gender]), len(genders)) for gender in sorted(groups)}
    sizes = {gender: whole for gender, (whole, _) in parts.items()}
    for gender in sorted(parts, key=lambda gender: -parts[gender][1])[: n - sum(sizes.values())]:
        sizes[gender] += 1

    def hash_speaker(speaker: str) -> str:
        return hashlib.sha256(f"{corpus}/{speaker}".encode()).hexdigest()

    return frozenset(
        speaker
        for gender, size in sizes.items()
        for speaker in sorted(groups[gender], key=hash_speaker)[:size]
    )
