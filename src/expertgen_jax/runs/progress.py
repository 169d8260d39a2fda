"""What a person sees while a run grows."""

import math
import shutil
import sys
import time


class Progress:
    """One line that shows how far a phase is; on a terminal it is rewritten in place, else printed now and then."""

    def __init__(self, period: float = 10.0):
        self.live = sys.stderr.isatty()
        self.period = 0.1 if self.live else period
        self.phase, self.start, self.first, self.shown = "", 0.0, 0.0, -math.inf

    def __call__(self, phase: str, fraction: float, text: str) -> None:
        """Shows `text` for a phase that is `fraction` done."""
        now = time.monotonic()
        if phase != self.phase:
            self.phase, self.start, self.first, self.shown = phase, now, fraction, -math.inf
        if now - self.shown < self.period and fraction < 1:
            return
        self.shown = now
        elapsed, gained = now - self.start, fraction - self.first
        left = f", {elapsed * (1 - fraction) / gained:.0f} s left" if gained > 0 and fraction < 1 else ""
        line = f"{phase:<9}{100 * fraction:4.0f} %  {text}  [{elapsed:.0f} s{left}]"
        columns = shutil.get_terminal_size().columns
        sys.stderr.write(f"\r{line[: columns - 1]:<{columns - 1}}" if self.live else line + "\n")
        if self.live and fraction >= 1:
            sys.stderr.write("\n")
        sys.stderr.flush()
