"""The journal of a run that goes on: a folder beside the file, from which the events survive this program.

    PATH.unfinished/
        header      a journal without events
        events-S    the events of server S (`shmps.engines.event_file`)

A server notes an event there before it acts on it. `Journal.open` reads the folder.
"""

import os
from contextlib import suppress
from typing import Any

from shmps.journal import HEADER, UNFINISHED, Journal, event_paths
from shmps.system import files


class Recording:
    """Where a `Cluster` keeps the events of a run that is to become the journal `path`.

    about: what the journal says of a training: settings, data, start.
    """

    def __init__(self, path: str | os.PathLike[str], **about: Any):
        self.about = about
        self._path = os.fspath(path)
        self._folder = self._path + UNFINISHED
        self._stays = False

    def begin(self, journal: Journal) -> list[str]:
        """Make the folder of a journal that has no events yet; return the path of each server's events.

        Replaces the folder of an earlier run that was killed. Raises DataError or OutOfSpace if it cannot be
        written.
        """
        self._remove()
        need = f"needs a folder {self._folder}"
        with files.naming_errors(self._path, "the journal", need, "train without a journal"):
            os.mkdir(self._folder)
            journal.save(os.path.join(self._folder, HEADER))
        return event_paths(self._folder, journal.servers)

    def save(self, journal: Journal) -> None:
        """Write the journal of the whole run. If that fails, the folder stays."""
        self._stays = True
        journal.save(self._path)
        self._stays = False

    def end(self) -> None:
        """Remove the folder, unless it has what the journal should have had."""
        if not self._stays:
            self._remove()

    def _remove(self) -> None:
        """Remove the folder with what `begin` and the servers have made in it."""
        with suppress(OSError):
            for name in os.listdir(self._folder):
                if name == HEADER or name.startswith("events-"):
                    os.unlink(os.path.join(self._folder, name))
            os.rmdir(self._folder)
