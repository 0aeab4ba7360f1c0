"""Prints what a corpus holds as tables and bars."""

from collections.abc import Mapping

from rich.table import Table

from wavslm_core.data.statistics import QUANTILES, SplitStatistics
from wavslm_core.machine.terminal import new_console

BAR_CELLS = 40
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def print_statistics(found: Mapping[str, SplitStatistics], *, listed: int) -> None:
    """Print a table of all splits, then for each its histogram and up to `listed` bad files."""
    console = new_console()
    console.print(_overview(found))
    console.print()
    console.print(_durations(found))
    for name, item in found.items():
        if item.utterances:
            console.print(f"\n{name}: utterances by seconds")
            for line in bars(item):
                console.print(line, soft_wrap=True)
        if item.rejected:
            console.print(f"\n{name}: {len(item.rejected)} bad files are left out")
            for left_out in item.rejected[:listed]:
                console.print(f"  {left_out.id}: {left_out.reason}", soft_wrap=True)
            if len(item.rejected) > listed:
                console.print(f"  and {len(item.rejected) - listed} more; --json lists all")


def _overview(found: Mapping[str, SplitStatistics]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("split", "hours", "utterances", "speakers", "bad files", "rates", "channels"):
        right = column in ("hours", "utterances", "speakers", "bad files")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for name, item in found.items():
        table.add_row(
            name,
            f"{item.hours:,.4g}" if item.hours < 1000 else f"{item.hours:,.0f}",
            f"{item.utterances:,}",
            f"{len(item.hours_by_speaker):,}" if item.hours_by_speaker else "not known",
            f"{len(item.rejected):,}",
            _shares(item.hours_by_rate_hz, item.hours, " Hz"),
            _shares(item.hours_by_channels, item.hours, "") or "not known",
        )
    return table


def _shares(hours: Mapping[int, float], total: float, unit: str) -> str:
    if len(hours) == 1:
        return f"{next(iter(hours))}{unit}"
    return ", ".join(f"{key}{unit} ({100 * value / total:.3g} %)" for key, value in hours.items())


def _durations(found: Mapping[str, SplitStatistics]) -> Table:
    table = Table("seconds", *QUANTILES, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, item in found.items():
        table.add_row(name, *(f"{value:.2f}" for value in item.quantiles_s.values()))
    return table


def bars(item: SplitStatistics) -> list[str]:
    """Return a line for each bin of the histogram."""
    most = max(int(item.counts.max()), 1)
    width = len(f"{item.edges_s[-1]:g}")
    lines = []
    last = len(item.counts) - 1
    longer = item.quantiles_s["longest"] > item.edges_s[-1]
    for place, count in enumerate(item.counts.tolist()):
        eighths = round(8 * BAR_CELLS * count / most)
        bar = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
        low, high = item.edges_s[place], item.edges_s[place + 1]
        span = f"{low:>{width}g} or more" if place == last and longer else f"{low:>{width}g} to {high:g}"
        lines.append(f"  {span:<{2 * width + 8}} {bar:<{BAR_CELLS}} {count:,}".rstrip())
    return lines
