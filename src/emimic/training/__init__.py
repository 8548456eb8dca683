"""Training: settings, setup, loop, losses, distillation, calibration."""
