"""Paired benchmark, run by hand on an idle machine: how long `segcli --help` takes, against importing typer alone.

python tests/benchmarks/startup.py --rounds 20
"""

import argparse
import subprocess
import sys

from machine import paired, timed

HELP = [sys.executable, "-m", "segcli.cli.app", "--help"]
TYPER = [sys.executable, "-c", "import typer"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    run = lambda command: timed(lambda: subprocess.run(command, check=True, capture_output=True))
    names = ("segcli --help", "import typer")
    paired("startup", lambda: run(HELP), lambda: run(TYPER), arguments.rounds, names=names, goal="3.0 at most")


if __name__ == "__main__":
    main()
