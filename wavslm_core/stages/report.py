"""Stage `report`: everything about the run in one `report.html` that opens anywhere."""

from typing import Literal

from pydantic import Field

from wavslm_core.parts.configs import StageConfig
from wavslm_core.run.context import StageContext
from wavslm_core.stages.base import Stage


class ReportConfig(StageConfig):
    """Write `report.html`: scores, curves, sound, codes, recipe and environment, all inside one file."""

    run: Literal["report"] = "report"
    samples: int = Field(default=4, ge=0)
    """Prompts shown with players and spectrograms; each takes about a megabyte."""

    def leaves(self) -> tuple[str, ...]:
        return ()


class Report(Stage[ReportConfig]):
    """Reads only what earlier stages left in the run folder; what is missing is left out."""

    def run(self, context: StageContext) -> None:
        if context.rank > 0:
            return
        from wavslm_core.machine.files import write_text
        from wavslm_core.report.build import build_report

        html = build_report(context.run_dir, context.recipe, samples_shown=self.config.samples)
        write_text(context.run_dir / "report.html", html)

    def left_results(self, context: StageContext) -> bool:
        return (context.run_dir / "report.html").exists()
