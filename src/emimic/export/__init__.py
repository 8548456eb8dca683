"""From a training run to an exported model."""
