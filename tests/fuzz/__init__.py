"""Random attacks on the commands: `python -m tests.fuzz [--only …] [--seconds N] [--cases N] [--seed S]`."""
