"""The contents of a corpus as a report (paper section 3.2)."""
