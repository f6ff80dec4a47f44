"""Ready callbacks for `LogisticRegression(callbacks=[...])`, and their base class."""

from shmps.linear.callbacks import Callback, Checkpoint, EarlyStopping, History, JsonLines

__all__ = ["Callback", "Checkpoint", "EarlyStopping", "History", "JsonLines"]
