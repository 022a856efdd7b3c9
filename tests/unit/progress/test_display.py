"""A display lives between jobs, and ends when it is closed."""

import threading
import time

from margin_cache.progress.display import Display


class Ticking(Display):
    def __init__(self) -> None:
        self.ticks = 0
        self.has_ticked = threading.Event()
        super().__init__(0.001)

    def tick(self) -> None:
        self.ticks += 1
        self.has_ticked.set()


def test_it_ticks_until_it_is_closed():
    display = Ticking()
    assert display.has_ticked.wait(10)
    display.close()
    ticks = display.ticks
    time.sleep(0.05)
    assert display.ticks == ticks
    display.close()


def test_what_is_written_aside_is_written():
    display = Ticking()
    written = []
    display.aside(lambda: written.append("a line"))
    display.close()
    assert written == ["a line"]
