"""Signals are delivered where nothing is lost: while the scheduler waits, and in the callbacks of a run.

Python runs a signal's handler in the main thread between any two bytecodes. A handler that raises, as that of
Ctrl-C does, can so leave a lock locked or a process running, wherever it strikes. While a cluster is open a
`_Receiver` stands in front of each handler. It looks at the stack for the functions that are marked here:

    held           the handler waits, in the function and in all that it calls
    delivering     but for these, which may be called by held ones: the handler runs
    cleaning_up    the handler waits, even in delivering ones

A mark belongs to the function, so there is no instant at which it does not hold yet, or no longer: neither
before the first line of `__exit__` nor after the last of `__enter__`. (Trio protects its internals so, too.)
`deliver` delivers the signals that wait; delivering functions call it, and held ones before they return.
"""

import _signal  # whose `getsignal` takes a hundredth of the time of that of `signal`, which makes enums
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
# Signals that have come and are not delivered yet, each with its handler.
waiting: collections.deque[tuple[int, Callable[..., Any]]] = collections.deque()
_blocks = 0  # that the main thread is in, of `blocked`


def held(function: Function) -> Function:
    """Mark a function in which signals wait, but where it calls a `delivering` one."""
    return _marked(function, _HELD)


def delivering(function: Function) -> Function:
    """Mark a function in which signals are delivered, also when a `held` one calls it."""
    return _marked(function, _DELIVERING)


def cleaning_up(function: Function) -> Function:
    """Mark a function in which signals wait, whatever it calls."""
    return _marked(function, _CLEANING_UP)


def _marked(function: Function, mark: int) -> Function:
    _marks[function.__code__] = mark  # type: ignore[attr-defined]
    return function


@delivering
def deliver() -> bool:
    """Run the handlers of the signals that wait; they may raise, as that of Ctrl-C does.

    Returns False if none waits that may be delivered here: not in another thread than the main one, and not
    where a caller cleans up. A held function that is about to return calls `deliver` until then, `while
    signals.waiting and signals.deliver()`: Python runs no handler between the look that finds none and the
    return.
    """
    if not waiting or not in_main_thread() or _must_wait(sys._getframe()):
        return False
    number, handler = waiting[0]
    del waiting[0]  # not popleft: Python could run the handler of another signal after the call
    try:
        handler(number, sys._getframe())
    finally:
        deliver()
    return True


@delivering
def poll(ready: select.poll, seconds: float | None) -> list[tuple[int, int]]:
    """The events of `ready`, waiting so many seconds at most (None: until there is one); delivers signals."""
    deliver()
    return ready.poll(None if seconds is None else 1000 * seconds)


class _Receiver:
    """What stands in front of a handler. `passages`: those that are open and rely on it."""

    def __init__(self, handler: Callable[..., Any]):
        self.handler = handler
        self.passages: set[Passage] = set()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not _must_wait(frame):
            self.handler(number, frame)
        elif (number, self.handler) not in waiting:
            waiting.append((number, self.handler))


class Passage:
    """From when it is made until it is closed, a receiver stands in front of every handler.

    Only of those that are functions of Python; and only in the main thread, which alone runs handlers.
    """

    def __init__(self) -> None:
        self._receivers: list[tuple[int, _Receiver]] = []
        try:
            self.renew()
        except BaseException:  # by a handler that has no receiver yet
            self.close()
            raise

    @delivering
    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """`function(*args)`, with signals delivered in it: it is the user's, and may set other handlers."""
        try:
            return function(*args)
        finally:
            self.renew()

    def renew(self) -> None:
        """Put receivers in front of handlers that the program has set meanwhile, too."""
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
        """Put back the handlers whose receivers nobody else needs, and deliver what waits, unless it waits
        for a caller.
        """
        try:
            self.put_back()
        finally:
            deliver()

    def put_back(self) -> None:
        """Without the delivery."""
        main = in_main_thread()
        try:
            while self._receivers:
                number, receiver = self._receivers[-1]
                receiver.passages.discard(self)
                # Another one, if the program has set it meanwhile, stays.
                if main and not receiver.passages and _signal.getsignal(number) is receiver:
                    signal.signal(number, receiver.handler)
                self._receivers.pop()
        finally:
            if self._receivers:  # a handler that was put back has raised
                self.put_back()


def in_main_thread() -> bool:
    """Whether this is the main thread: it alone runs handlers, and nodes that it starts die with it."""
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
    """Signals wait until the block is done, where no cluster is open too.

    Ctrl-C and SIGTERM are blocked besides, so that a child that is forked in it, by any thread, does not run
    its parent's handlers before it has set its own.
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
    """In a node: what its parent did with signals is not for it. It ignores these."""
    global _blocks
    for number in _ALL:
        if callable(_signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    for each in ignored:
        signal.signal(each, signal.SIG_IGN)
    waiting.clear()
    _blocks = 0
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
