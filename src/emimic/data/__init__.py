"""Corpora: split tables, clips, batches."""
