"""``python -m graphopt`` is the command line, also where no script was put on the path."""

from graphopt.cli import main

if __name__ == "__main__":
    main()
