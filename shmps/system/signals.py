"""Delays signals while a cluster is open, so that a handler that raises does not lose anything.

Python runs a signal's handler in the main thread between any two bytecodes. A handler that raises, as that
of Ctrl-C does, can leave a lock locked or a process running. While a cluster is open, a `_Receiver` replaces
each handler. It looks at the stack for marked functions:

    signal
      v
    _Receiver --+-- the nearest mark is `delivering`, or none ------------------------------> handler
                |                                                                                ^
                +-- the nearest mark is `held`, any mark is `cleaning_up`,                       |
                    or the main thread is in `blocked` --> waiting --> deliver() ----------------+

    held           the handler waits, in the function and in all functions that it calls, except
    delivering     functions that may be called by held ones: the handler runs
    cleaning_up    the handler waits, even in delivering functions

Delivering functions call `deliver`, and held functions call it before they return. So signals are delivered
while the scheduler waits, and in the callbacks of a run.

A mark belongs to a function, so it has no gap: it holds before the first line of `__exit__` and after the
last line of `__enter__`. (Trio protects its internals in the same way.)
"""

import _signal  # `_signal.getsignal` takes a hundredth of the time of `signal.getsignal`, which makes enums
import collections
import contextlib
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any, TypeVar

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ALL = sorted(signal.valid_signals())

Function = TypeVar("Function", bound=Callable[..., Any])

_HELD, _DELIVERING, _CLEANING_UP = range(3)
_marks: dict[CodeType, int] = {}
# Signals that came and are not delivered yet, each with its handler.
waiting: collections.deque[tuple[int, Callable[..., Any]]] = collections.deque()
_blocks = 0  # blocks of `blocked` that the main thread is in


def held(function: Function) -> Function:
    """Mark a function in which signals wait, except in the `delivering` functions that it calls."""
    return _marked(function, _HELD)


def delivering(function: Function) -> Function:
    """Mark a function in which signals are delivered, also if a `held` function calls it."""
    return _marked(function, _DELIVERING)


def cleaning_up(function: Function) -> Function:
    """Mark a function in which signals wait, in all functions that it calls too."""
    return _marked(function, _CLEANING_UP)


def _marked(function: Function, mark: int) -> Function:
    _marks[function.__code__] = mark  # type: ignore[attr-defined]
    return function


@delivering
def deliver() -> bool:
    """Run the handlers of the signals that wait. They may raise, as that of Ctrl-C does.

    Return False if no signal waits that may be delivered here. None may be delivered in another thread than
    the main one, or if a caller cleans up. A held function that is about to return calls `deliver` until it
    returns False, `while signals.waiting and signals.deliver()`: Python runs no handler between the look that
    finds no signal and the return.
    """
    if not waiting or not in_main_thread() or _must_wait(sys._getframe()):
        return False
    number, handler = waiting[0]
    del waiting[0]  # not popleft(): after a call Python could run the handler of another signal
    try:
        handler(number, sys._getframe())
    finally:
        deliver()
    return True


@delivering
def poll(ready: select.poll, seconds: float | None) -> list[tuple[int, int]]:
    """Return the events of `ready` after at most `seconds` (None: no limit). Signals are delivered."""
    deliver()
    return ready.poll(None if seconds is None else 1000 * seconds)


class _Receiver:
    """Replaces a handler. `passages`: the open passages that need it."""

    def __init__(self, handler: Callable[..., Any]):
        self.handler = handler
        self.passages: set[Passage] = set()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not _must_wait(frame):
            self.handler(number, frame)
        elif (number, self.handler) not in waiting:
            waiting.append((number, self.handler))


class Passage:
    """Until it is closed, a receiver replaces every handler.

    It concerns handlers that are Python functions, and the main thread, the only one that runs handlers.
    """

    def __init__(self) -> None:
        self._receivers: list[tuple[int, _Receiver]] = []
        try:
            self.renew()
        except BaseException:  # raised by a handler that has no receiver yet
            self.close()
            raise

    @delivering
    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return `function(*args)`, a function of the user, which may set handlers. Signals are delivered."""
        try:
            return function(*args)
        finally:
            self.renew()

    def renew(self) -> None:
        """Replace the handlers that the program has set since the last call, too."""
        if not in_main_thread():
            return
        for number in _ALL:
            handler = _signal.getsignal(number)
            if callable(handler) and (number, handler) not in self._receivers:
                receiver = handler if isinstance(handler, _Receiver) else _Receiver(handler)
                self._receivers.append((number, receiver))
                receiver.passages.add(self)
                signal.signal(number, receiver)

    def close(self) -> None:
        """Put back the handlers, and deliver the signals that wait, unless a mark of a caller holds them."""
        try:
            self.put_back()
        finally:
            deliver()

    def put_back(self) -> None:
        """Put back the handlers whose receivers no other passage needs. Delivers no signal."""
        main = in_main_thread()
        try:
            while self._receivers:
                number, receiver = self._receivers[-1]
                receiver.passages.discard(self)
                # A handler that the program has set meanwhile stays.
                if main and not receiver.passages and _signal.getsignal(number) is receiver:
                    signal.signal(number, receiver.handler)
                self._receivers.pop()
        finally:
            if self._receivers:  # a handler raised after it was put back
                self.put_back()


def in_main_thread() -> bool:
    """Return whether this is the main thread: only it runs handlers, and nodes that it starts die with it."""
    return threading.current_thread() is threading.main_thread()


def _must_wait(frame: FrameType | None) -> bool:
    if _blocks:
        return True
    nearest = None
    while frame is not None:
        mark = _marks.get(frame.f_code)
        if mark == _CLEANING_UP:
            return True
        if nearest is None:
            nearest = mark
        frame = frame.f_back
    return nearest == _HELD


@contextlib.contextmanager
@held
def blocked() -> Iterator[None]:
    """Make signals wait until the end of the block, also if no cluster is open.

    The system blocks SIGINT and SIGTERM besides, so that a child that any thread forks in the block does not
    run the handlers of its parent before it has set its own.
    """
    global _blocks
    passage, main = Passage(), int(in_main_thread())
    _blocks += main
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _blocks -= main
        passage.put_back()
        if not _must_wait(sys._getframe().f_back):
            deliver()


def begin_anew(ignored: tuple[int, ...]) -> None:
    """Undo, in a new node, what its parent did with signals. The node ignores the signals `ignored`."""
    global _blocks
    for number in _ALL:
        if callable(_signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    for each in ignored:
        signal.signal(each, signal.SIG_IGN)
    waiting.clear()
    _blocks = 0
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
