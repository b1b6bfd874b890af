"""`python -m todoke.streams` is the console script, for processes that start their own kind."""

from .cli import main

if __name__ == "__main__":
    main()
