"""The research wing: learn from a corpus."""
