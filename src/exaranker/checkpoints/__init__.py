"""Checkpoints: the card that describes a model, reading and writing one, the whole state of a training run."""
