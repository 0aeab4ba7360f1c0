"""Where in a run's folder stages leave things: each in a place of its own, so that none replaces another's.

Several stages may leave a path such as "codec". The last of them leaves it under that name, where everything
else looks for it; an earlier one in a folder that is called as the stage is: `train_codec/codec` beside
the `codec` of `train_codec_2`. So what a stage starts from is there whenever it runs again.

What a certain stage leaves is asked for by its name: "train_codec_2/codec" is that of `train_codec_2`,
wherever it lies.
"""

from wavslm_core.recipe.model import Recipe


def place(recipe: Recipe, path: str, *, stage: str) -> str:
    """Return where a stage leaves `path`, relative to the run's folder."""
    leaving = _leaving(recipe, path)
    return path if stage not in leaving[:-1] else f"{stage}/{path}"


def earlier_place(recipe: Recipe, path: str, *, stage: str) -> str | None:
    """Return where the last of the stages before `stage` that leave `path` does so; None: none does.

    A stage that the recipe does not have comes after all of them.
    """
    before = _before(recipe, stage)
    named, _, rest = path.partition("/")
    if named in before:
        return place(recipe, rest, stage=named) if named in _leaving(recipe, rest) else None
    leaving = [name for name in _leaving(recipe, path) if name in before]
    return place(recipe, path, stage=leaving[-1]) if leaving else None


def found_place(recipe: Recipe, path: str, *, stage: str) -> str | None:
    """Return where a stage finds `path`: as `earlier_place`, else where something else may have put it.

    None when only this stage or later ones leave it.
    """
    earlier = earlier_place(recipe, path, stage=stage)
    if earlier is not None:
        return earlier
    before = _before(recipe, stage)
    unstated = any(name in before and config.leaves() is None for name, config in recipe.named_stages())
    return path if unstated or not _leaving(recipe, path) else None


def _leaving(recipe: Recipe, path: str) -> list[str]:
    return [name for name, config in recipe.named_stages() if path in tuple(config.leaves() or ())]


def _before(recipe: Recipe, stage: str) -> list[str]:
    names = [name for name, _ in recipe.named_stages()]
    return names[: names.index(stage)] if stage in names else names
