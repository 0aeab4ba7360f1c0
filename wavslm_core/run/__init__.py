"""The folder of a run: what is in it, who has it, and how it does."""
