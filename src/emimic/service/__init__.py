"""The deployment wing: use a finished model."""
