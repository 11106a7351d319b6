"""`python -m neurofmx` is the command `neurofmx`."""

from neurofmx.cli import main

main()
