"""Callbacks for `LogisticRegression(callbacks=[...])`: the documented base class, and ready ones."""

from shmps.linear.callbacks import Callback, Checkpoint, EarlyStopping, History, JsonLines

__all__ = ["Callback", "Checkpoint", "EarlyStopping", "History", "JsonLines"]
