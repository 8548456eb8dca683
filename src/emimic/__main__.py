"""The command line as `python -m emimic`."""

from emimic.cli import main

main()
