"""What a fork server imports as it starts: from then on it can not outlive the process that started it."""

import os
import signal

from shmps.boot import signal_at_parents_death

signal_at_parents_death(signal.SIGKILL, os.getppid())
