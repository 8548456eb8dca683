"""The baselines of the paper's Table 1 and of later challenge results: one file each, on features on disk."""
