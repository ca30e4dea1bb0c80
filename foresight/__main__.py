"""`python -m foresight`: the same command, for launchers that start modules."""

from .cli import main

raise SystemExit(main())
