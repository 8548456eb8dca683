"""Training: settings, setup, the loop, the losses."""
