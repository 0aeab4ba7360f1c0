"""`wavslm doctor`: is this machine ready, and does a recipe learn?"""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from wavslm_core.cli.inputs import DeviceOption, usable_device
from wavslm_core.errors import WavslmError
from wavslm_core.machine.devices import AUTO
from wavslm_core.machine.terminal import echo

LEAST_FREE_GB = 1


def doctor(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe to try out.", show_default=False)] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes to it.", show_default=False)
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps on the one batch.")] = 60,
    runs_dir: Annotated[Path, typer.Option(help="Where runs will be; corpora are cached there.")] = Path(
        "runs"
    ),
    device: DeviceOption = AUTO,
) -> None:
    """Report on the environment, devices, plugins and disk; with a recipe, overfit one batch of it.

    A model that cannot learn one batch by heart will not learn anything. Leaves with exit code 2 when
    something is wrong.
    """
    from wavslm_core.data.audio import torchaudio_problem

    target = usable_device(device)
    problems = _report_environment(runs_dir)
    note = torchaudio_problem()
    _line("torchaudio", "ok" if note is None else "only wavslm can import it, see below")
    _line("device", str(target))
    if recipe is not None:
        from wavslm_core.recipe.checks import check
        from wavslm_core.recipe.loading import load_recipe
        from wavslm_core.stages.overfitting import REMAINING, overfit

        checked = check(load_recipe(recipe, overrides or []))
        for outcome in overfit(checked, steps=steps, runs_dir=runs_dir, device=target):
            verdict = "learns" if outcome.learns else "DOES NOT LEARN"
            _line(
                outcome.what,
                f"{verdict}: {outcome.unit} {outcome.first:.3f} → {outcome.last:.3f} "
                f"on one batch in {steps} steps ({outcome.seconds:.1f} s)",
            )
            _line("precision", str(outcome.precision))
            for text in outcome.proof.table():
                _line("", text)
            if not outcome.learns:
                problems.append(
                    f"the {outcome.what} of {recipe} does not learn one batch by heart: {steps} steps took "
                    f"less than {100 * (1 - REMAINING):.0f} % of its loss away. Try more --steps, another "
                    "`lr`, or a larger model"
                )
    if problems:
        raise WavslmError("\n".join(problems))
    echo("all is well" if note is None else f"wavslm is well; other software is not: {note}")


def _report_environment(runs_dir: Path) -> list[str]:
    """Print what is there and return what is wrong."""
    import soundfile
    import torch

    from wavslm_core.parts.plugins import load
    from wavslm_core.run.environment import describe_processor

    _line("python", f"{sys.version.split()[0]} on {sys.platform}")
    _line("torch", f"{torch.__version__}, {torch.get_num_threads()} threads")
    _line("processor", describe_processor())
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    _line("GPUs", ", ".join(names) or "none; runs use the CPU")
    _line("audio", f"libsndfile {soundfile.__libsndfile_version__}")
    existing = next(path for path in (runs_dir.absolute(), *runs_dir.absolute().parents) if path.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    _line("disk", f"{free_gb:.1f} GB free for {runs_dir}")
    problems = []
    if free_gb < LEAST_FREE_GB:
        problems.append(
            f"{free_gb:.1f} GB are free for {runs_dir}, a run wants {LEAST_FREE_GB} GB. Free some space or "
            "choose another --runs-dir"
        )
    for plugin in load().plugins:
        state = "ok" if plugin.error is None else f"FAILED: {type(plugin.error).__name__}: {plugin.error}"
        _line("plugin", f"{plugin.distribution} {plugin.version}: {state}")
        if plugin.error is not None:
            problems.append(f"plugin {plugin.distribution} does not load. Update, mend or uninstall it")
    return problems


def _line(what: str, text: str) -> None:
    echo(f"{what:<12}{text}")
