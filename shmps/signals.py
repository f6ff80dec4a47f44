"""Run signal handlers only where they may raise: while the scheduler waits, and in the callbacks of a run.

Python runs a signal's handler in the main thread, between two bytecodes. A handler that raises, as the one of
Ctrl-C does, can leave a lock locked or a process running. So `_receive` replaces the handlers while a cluster
is open. It looks at the stack for functions that are marked:

    held           the handler waits while the function runs, and the functions that it calls
    delivering     the handler runs in the function, even if a held function has called it
    cleaning_up    the handler waits, even in the delivering functions that the function calls

A mark belongs to the function's code. So it holds before the first line of `__exit__`, and after the last
line of `__enter__`. (Trio protects its internals in the same way.) `deliver` runs the handlers that wait.
Delivering functions call it, and held functions call it before they return.
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
    """Call a user's function. Signals are delivered while it runs."""
    return function(*args)


@delivering
def poll(ready: select.poll, seconds: float | None) -> list[tuple[int, int]]:
    """Wait for events of `ready`, at most `seconds` (None: no limit). Signals are delivered meanwhile."""
    deliver()
    return ready.poll(None if seconds is None else 1000 * seconds)


class Passage:
    """Replace the signal handlers by `_receive`, from the construction until `close`.

    Only handlers that are Python functions are replaced, and only in the main thread, where handlers run.
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
    """Hold SIGINT and SIGTERM back until the block ends, whether a cluster is open or not.

    The signals are blocked, so a child that is forked in the block does not run its parent's handlers before
    it has set its own. Another thread may still receive a signal, and Python then runs the handler in the
    main thread. So the handlers only note the signal, and it is raised again at the end of the block.
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
