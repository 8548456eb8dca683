"""The systems that the paper's Table 1 compares with, and the record since: one file each, on features on disk."""
