"""Ctrl-C and SIGTERM as a request: finish the chunk, save, then stop. A second Ctrl-C stops at once.

Python runs a handler in the main thread, between two of its own instructions: while that thread waits for a chunk on the device, a minute
perhaps, no handler runs. So a thread beside it, which the interpreter's C code wakes, says what will happen.
"""

import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from jaxnn.progress import say

HEARD = "asked to stop: the steps under way are finished and saved first; Ctrl-C once more stops without saving"


class Interrupted(KeyboardInterrupt):
    """A run that was asked to stop, and what it kept. `signal` is the number of the signal that asked."""

    def __init__(self, message: str, signal: int = signal.SIGINT):
        super().__init__(message)
        self.signal = signal

    @property
    def exit_code(self) -> int:
        """128 + the signal, as a shell has it: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], int]]:
    """Yield a function that gives the signal which asked to stop, 0 where none did.

    Inside, the first SIGINT or SIGTERM is only remembered, and answered on stderr at once. A second SIGINT, or any other signal, does
    what it does outside.
    So does the first one at the end, if it came too late for anybody inside to act on it.
    In a thread that is not the main one signals cannot be caught: there the function always gives 0. A signal that the process
    ignores, as a job in the background of a shell ignores SIGINT, stays ignored.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}

    def remember(number: int, frame: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            asked.clear()  # it is acted on
            raise KeyboardInterrupt("stopped at once")
        asked.append(number)

    for number in before:
        signal.signal(number, remember)
    try:
        with _answered(before):
            yield lambda: asked[0] if asked else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        signal.raise_signal(asked[0])


@contextmanager
def _answered(numbers: Iterable[int]) -> Iterator[None]:
    """Inside, the first of these signals is answered at once, by a thread, whatever the main thread waits for."""
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)
    others = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    if others != -1:  # an event loop listens, that of a notebook say: it must go on to
        signal.set_wakeup_fd(others)
    thread = threading.Thread(target=_answer, args=(ear, frozenset(numbers)), daemon=True)
    thread.start()
    try:
        yield
    finally:
        if others == -1:
            signal.set_wakeup_fd(-1)
        mouth.close()
        thread.join()
        ear.close()


def _answer(ear: socket.socket, numbers: frozenset[int]) -> None:
    """Until the other end is closed."""
    said = False
    while heard := ear.recv(64):
        if not said and numbers & set(heard):
            said = True
            say(HEARD)
