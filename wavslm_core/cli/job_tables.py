"""Tables of runs and of the jobs of one."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from wavslm_core.machine.slurm import JobState, count_states
from wavslm_core.run.failure import ERROR_FILE, RUN_LOG, error_line, first_error, last_lines, read_error_text
from wavslm_core.run.progress import progress_cells
from wavslm_core.run.records import JobRecord
from wavslm_core.run.state import RunStatus, State

RUN_COLUMNS = ("run", "state", "node", "stage", "progress", "rate", "left", "loss", "restarts", "error")
JOB_COLUMNS = ("job", "stages", "state", "reason", "node", "restarts", "ended")
FAILED_TASKS_SHOWN = 5
"""Of a job array."""


def runs_table(statuses: Sequence[RunStatus]) -> Table:
    """Return one row for each run."""
    table = Table(*RUN_COLUMNS, box=None, pad_edge=False)
    table.columns[0].overflow = table.columns[-1].overflow = "fold"
    for status in statuses:
        table.add_row(
            status.run_dir.name,
            status.state,
            status.nodes,
            status.stage,
            *progress_cells(status.progress, moving=status.state is State.RUNNING),
            str(status.restarts or ""),
            status.error,
        )
    return table


def jobs_table(status: RunStatus) -> Table:
    """Return one row for each job of a run; the tasks of an array are counted by state."""
    table = Table(*JOB_COLUMNS, box=None, pad_edge=False)
    for record in status.records:
        jobs = status.job_of(record)
        array = f" ×{record.array}" if record.array is not None else ""
        table.add_row(record.job_id + array, ", ".join(record.stages), *_job_cells(record, jobs))
    return table


def _job_cells(record: JobRecord, jobs: Sequence[JobState]) -> tuple[str, str, str, str, str]:
    if not jobs:
        return ("on this machine" if record.launcher == "local" else "not known", "", "", "", "")
    return (
        jobs[0].state if len(jobs) == 1 else count_states(jobs),
        ", ".join(dict.fromkeys(why for job in jobs if (why := _why(job)))),
        ",".join(dict.fromkeys(job.nodes for job in jobs if job.nodes)),
        str(sum(job.restarts or 0 for job in jobs) or ""),
        max(job.ended for job in jobs),
    )


def _why(job: JobState) -> str:
    """Return why a job waits or how it failed; empty for one that runs or went well."""
    return job.reason or ("" if job.state == "COMPLETED" else job.exit_code)


def first_failures(status: RunStatus) -> list[str]:
    """Return, for the jobs that failed last, which failed and its first error."""
    lines: list[str] = []
    for record in reversed(status.records):
        for number, task in enumerate(record.task_ids):
            error = first_error(status.run_dir, task)
            title = error.title if error is not None else None
            job = status.jobs.get(task)
            if title is None and job is not None and not job.active and job.state != "COMPLETED":
                log = status.run_dir / record.logs[number]
                title = error_line([log]) or job.ending
            if title is not None:
                lines.append(f"job {task}: {title}")
        if lines:
            break
    told = read_error_text(status.run_dir / ERROR_FILE)
    if not lines and (told or status.error):
        # Of a run without jobs, or of a trial that a process with several ran.
        lines = [told or status.error]
    rest = len(lines) - FAILED_TASKS_SHOWN
    return lines if rest <= 0 else [*lines[:FAILED_TASKS_SHOWN], f"and {rest} more tasks"]


def newest_log(status: RunStatus) -> Path | None:
    """Return the log that was written to last."""
    logs = [status.run_dir / log for record in status.records for log in record.logs]
    logs.append(status.run_dir / RUN_LOG)
    there = [log for log in logs if log.exists()]
    return max(there, key=lambda log: log.stat().st_mtime, default=None)


def log_tail(log: Path, lines: int) -> str:
    """Return the last lines of a log, each set in by two spaces."""
    return "\n".join(f"  {line}" for line in last_lines(log, lines))
