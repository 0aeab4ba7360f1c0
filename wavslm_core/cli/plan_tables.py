"""Prints a plan as tables."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from wavslm_core.machine.terminal import byte_text, new_console
from wavslm_core.recipe.model import ResolvedRecipe
from wavslm_core.recipe.plan import Plan


def print_plan(plan: Plan, recipe: ResolvedRecipe, *, folder: Path, where: str) -> None:
    """Print parts, codec, data and stages, and where it would run."""
    console = new_console()
    console.print(f"{recipe.name} ({recipe.source}), seed {recipe.seed}\n")
    for table in (_parts(plan), _splits(plan), _stages(plan)):
        if table.row_count:
            console.print(table)
            console.print()
    for line in (*_codec(plan), f"would run {where}", f"run folder: {folder}{_state(folder)}"):
        console.print(line, soft_wrap=True)
    for stage in plan.stages:
        if stage.warning:
            console.print(f"warning: {stage.warning}", soft_wrap=True, style="yellow")


def _state(folder: Path) -> str:
    return " (exists: the run would continue there)" if folder.exists() else ""


def _parts(plan: Plan) -> Table:
    table = _table("part", "name", "parameters", "facts", right=(2,))
    for part in plan.parts:
        size = part.problem or (f"{part.parameters:,}" if part.parameters else "none")
        facts = ", ".join(f"{key} {value}" for key, value in part.facts.items() if value is not None)
        table.add_row(part.role, part.name, size, facts)
    known = [part.parameters for part in plan.parts if part.parameters is not None]
    if known:
        table.add_row("", "together", f"{sum(known):,}", "")
    return table


def _splits(plan: Plan) -> Table:
    table = _table("split", "corpus", "hours", "tokens", "bytes", right=(2, 3, 4))
    for split in plan.splits:
        hours = "known once read" if split.hours is None else f"{split.hours:.2f}"
        tokens = "" if split.tokens is None else f"{split.tokens:,}"
        table.add_row(split.split, split.corpus, hours, tokens, _bytes(split.bytes))
    return table


def _stages(plan: Plan) -> Table:
    table = _table("stage", "what", "weights and optimizer", right=(2,))
    for stage in plan.stages:
        details = ", ".join(f"{key} {_number(value)}" for key, value in stage.details.items())
        memory = "not known" if stage.state_bytes is None else _bytes(stage.state_bytes or None)
        table.add_row(stage.run, details, memory)
    if plan.stages:
        table.caption = "Memory of weights, gradients and AdamW's moments in fp32; activations come on top."
        table.caption_justify = "left"
    return table


def _codec(plan: Plan) -> list[str]:
    lines = [f"codec checkpoint: {plan.codec_checkpoint}"] if plan.codec_checkpoint else []
    if plan.augment:
        lines.append(f"augmented in training: {plan.augment}")
    if plan.codec is not None:
        codec = plan.codec
        streaming = f"{codec.latency_ms:g} ms latency" if codec.streams else "does not stream"
        chunk_ms = 1000 * codec.chunk_tokens / codec.token_rate_hz
        lines.append(
            f"codec: {codec.token_rate_hz:g} tokens/s, {plan.bits_per_second:.0f} bit/s, "
            f"chunk {codec.chunk_tokens} tokens = {chunk_ms:g} ms, {streaming}"
        )
    if plan.codec is not None and plan.head_chunk_tokens is not None:
        chunk_ms = 1000 * plan.head_chunk_tokens / plan.codec.token_rate_hz
        max_run = plan.codec.quantizer.max_run
        lasts = f"{chunk_ms:g} ms" if max_run == 1 else f"{chunk_ms:g} to {chunk_ms * max_run:g} ms"
        lines.append(f"language model: {plan.head_chunk_tokens} tokens = {lasts} of speech a step")
    return lines


def _table(*columns: str, right: tuple[int, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index in right else "left", overflow="fold")
    return table


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _bytes(count: int | None) -> str:
    return "" if count is None else byte_text(count)
