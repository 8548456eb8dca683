"""What a corpus contains, as a report (paper section 3.2)."""
