"""Training: a run, its configuration, its data and what it reports."""

from exaranker.train.config import CheckpointConfig, DataConfig, EvalConfig, TrainConfig

__all__ = ["CheckpointConfig", "DataConfig", "EvalConfig", "TrainConfig"]
