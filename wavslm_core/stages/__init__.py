"""One file per thing a recipe can do."""
