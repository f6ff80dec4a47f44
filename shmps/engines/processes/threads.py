"""The threads of this program that may make a fork hang."""

import re
import sys
import threading
from types import FrameType

# The threads of these modules wait or draw, and run no other code.
_IDLE = re.compile(r"(tqdm|ipykernel|IPython|debugpy|joblib\.externals\.loky|multiprocessing\.queues)(\.|$)")


def threads_that_may_compute() -> list[str]:
    """Return the names of the other threads of this program that may make a fork hang.

    If a thread is in a matrix product, OpenBLAS waits in its fork handler for its own threads, and the
    product never ends. The list leaves out the threads of notebooks and progress bars: they do not compute.
    """
    frames = sys._current_frames()
    return [
        thread.name
        for thread in threading.enumerate()
        if thread is not threading.current_thread()
        and not _IDLE.match(_module_of(frames.get(thread.ident or 0)))
    ]


def _module_of(frame: FrameType | None) -> str:
    """Return the module of a thread's target, its outermost function outside `threading`."""
    module = ""
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        module, frame = module if name == "threading" else name, frame.f_back
    return module
