"""`python -m vidtok_runtime.cli` is `vidtok-run`."""

from vidtok_runtime.cli import main

main()
