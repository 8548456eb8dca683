"""`python -m emimic`: the command line."""

from emimic.cli import main

main()
