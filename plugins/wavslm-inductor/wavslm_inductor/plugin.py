"""Entry point: registers the engine."""

from wavslm_core.plugin import RegisterEngine, hookimpl


@hookimpl
def register_engines(register: RegisterEngine) -> None:
    register(
        "inductor",
        "wavslm_inductor.engine:compiled",
        weights=("fp32", "int8"),
        about="Steps compiled for this machine, once.",
        whole_chunks=True,
    )
