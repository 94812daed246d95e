"""Losses: per token, and their sums over a batch."""

from exaranker.losses.token import LossConfig

__all__ = ["LossConfig"]
