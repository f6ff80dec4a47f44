"""Callbacks for `LogisticRegression(callbacks=[...])`: the documented base class, and ready ones."""

from shmps.linear.callbacks import Callback, EarlyStopping, History, JsonLines, ModelCheckpoint

__all__ = ["Callback", "EarlyStopping", "History", "JsonLines", "ModelCheckpoint"]
