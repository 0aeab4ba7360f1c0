"""Entry point: registers the engine."""

from wavslm_core.plugin import RegisterEngine, hookimpl


@hookimpl
def register_engines(register: RegisterEngine) -> None:
    register(
        "cuda_graphs",
        "wavslm_cuda_graphs.engine:compiled",
        weights=("fp32",),
        about="Steps on a GPU, recorded once and replayed.",
        whole_chunks=True,
        device="cuda",
        any_rows=True,
    )
