"""Signals are delivered where nothing is lost: while the scheduler waits, and in the callbacks of a run.

Python runs a signal's handler in the main thread between any two bytecodes. A handler that raises, as that of
Ctrl-C does, can so leave a lock locked or a process running, wherever it strikes. While a cluster is open its
signals pass through `_receive`, which looks at the stack for the functions that are marked here:

    held           the handler waits, in the function and in all that it calls
    delivering     but for these, which may be called by held ones: the handler runs
    cleaning_up    the handler waits, even in delivering ones

A mark belongs to the function, so there is no instant at which it does not hold yet, or no longer: neither
before the first line of `__exit__` nor after the last of `__enter__`. (Trio protects its internals so, too.)
`deliver` delivers the signals that wait; delivering functions call it, and held ones before they return.
"""

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
# Of the others with a handler of Python's, these may raise as well: time limits are made of SIGALRM.
_PASSED_ON = (*SIGNALS, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2)

Function = TypeVar("Function", bound=Callable[..., Any])

_HELD, _DELIVERING, _CLEANING_UP = range(3)
_marks: dict[CodeType, int] = {}
_handlers: dict[int, Any] = {}  # by signal: what `_receive` stands in front of
waiting: collections.deque[int] = collections.deque()  # signals that have come and are not delivered yet


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

    Returns False if none waits, or if the handlers may not run here: in another thread than the main one,
    and in what a `cleaning_up` function calls.

    A held function ends with `while signals.waiting and signals.deliver(): pass`. Python runs no handler
    between the look that finds no signal and the return.
    """
    if not waiting or not _in_main_thread() or _must_wait(sys._getframe()):
        return False
    number = waiting[0]
    del waiting[0]  # not popleft: Python could run the handler of another signal after the call
    try:
        signal.raise_signal(number)  # for the handler that is set now; `_receive` does not hold it back here
    finally:
        deliver()
    return True


@delivering
def call(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)`, with signals delivered in it: it is the user's."""
    return function(*args)


@delivering
def poll(ready: select.poll, seconds: float | None) -> list[tuple[int, int]]:
    """The events of `ready`, waiting so many seconds at most (None: until there is one); delivers signals."""
    deliver()
    return ready.poll(None if seconds is None else 1000 * seconds)


class Passage:
    """From when it is made until it is closed, signals pass through here.

    Only those that a Python function handles; and only in the main thread, which alone runs handlers.
    """

    def __init__(self) -> None:
        self._replaced: dict[
            int, tuple[Any, Any]
        ] = {}  # by signal: its handler, and the entry of `_handlers`
        if not _in_main_thread():
            return
        for each in _PASSED_ON:
            handler = signal.getsignal(each)
            if callable(handler) and handler is not _receive:
                self._replaced[each] = handler, _handlers.get(each, handler)
                _handlers[each] = handler
                signal.signal(each, _receive)

    def close(self) -> None:
        """Put the handlers back. The caller then delivers the signals that wait."""
        if not _in_main_thread():
            return
        try:
            for each, (handler, before) in list(self._replaced.items()):
                _handlers[each] = before
                if signal.getsignal(each) is _receive:  # else the program has set another one meanwhile
                    signal.signal(each, handler)
                del self._replaced[each]
        finally:
            if self._replaced:  # a handler that is back has raised
                self.close()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _receive(number: int, frame: FrameType | None) -> None:
    if not _must_wait(frame):
        _handlers[number](number, frame)
    elif number not in waiting:
        waiting.append(number)


def _must_wait(frame: FrameType | None) -> bool:
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
def blocked() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the block is done, where no cluster is open too.

    They are blocked, so that a child that is forked in it does not run its parent's handlers before it has
    set its own. Another thread may still take them, and then Python runs their handlers in the main thread:
    there they are only noted, and raised at the end.
    """
    noted: list[int] = []
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    handlers = {}
    if _in_main_thread():
        for each in SIGNALS:
            if callable(signal.getsignal(each)):
                handlers[each] = signal.signal(each, lambda number, frame: noted.append(number))
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
        for number in dict.fromkeys(noted):
            signal.raise_signal(number)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
