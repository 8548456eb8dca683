"""The old name of `fields`."""

from emimic.data.fields import alike, read_number, speaker_key

__all__ = ["alike", "read_number", "speaker_key"]
