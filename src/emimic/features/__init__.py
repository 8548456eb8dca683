"""Features of a corpus, computed once and stored on disk."""
