"""Where commands say what they did."""

import sys

from rich.console import Console

WIDTH = None if sys.stdout.isatty() else 120  # columns of a table in a log
console = Console(highlight=False, soft_wrap=True, width=WIDTH)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)
