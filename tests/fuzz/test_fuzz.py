"""The fuzz, small: the same few attacks every time. At length: `python -m tests.fuzz --seconds 600`."""

import sys
from pathlib import Path

from tests.support import environment_without, run_program

REPO = Path(__file__).parents[2]


def test_a_few_attacks_of_each_kind_end_well() -> None:
    # As a person would, without tests' own variables.
    environment = {**environment_without("WAVSLM"), "OMP_NUM_THREADS": "1"}
    done = run_program(sys.executable, "-m", "tests.fuzz", "--cases", "2", cwd=REPO, env=environment)
    ended = [line.partition(" in ")[0] for line in done.stdout.splitlines()]
    assert ended == ["recipes: 2 cases", "files: 2 cases", "kills: 2 cases"]


def test_what_does_not_end_well_is_told_with_how_to_see_it_again(tmp_path: Path) -> None:
    program = (
        "import sys; from tests.fuzz import __main__ as fuzz; "
        "fuzz.ATTACKS['recipes'] = lambda random, folder: (f'{random.random():.6f}', 'what was done'); "
        "sys.argv = ['fuzz', '--only', 'recipes', *sys.argv[1:]]; sys.exit(fuzz.main())"
    )

    def told(*arguments: str) -> list[str]:
        return run_program(sys.executable, "-c", program, *arguments, cwd=REPO, code=1).stdout.splitlines()

    lines = told("--cases", "3", "--seed", "5")
    assert lines[4] == "recipes: --only recipes --seed 5 --case 2: what was done"
    assert told("--seed", "5", "--case", "2")[:2] == lines[4:6]
    assert lines[-1].endswith("3 wrong")
