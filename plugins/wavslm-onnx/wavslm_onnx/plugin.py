"""Entry point: registers the verb, and the engine."""

from wavslm_core.plugin import RegisterCommand, RegisterEngine, hookimpl


@hookimpl
def register_commands(register: RegisterCommand) -> None:
    register("export", "wavslm_onnx.command:export", about="Write a model as graphs that run without torch.")


@hookimpl
def register_engines(register: RegisterEngine) -> None:
    register(
        "onnxruntime", "wavslm_onnx.engine:compiled", weights=("fp32", "int8"), about="ONNX graphs of steps."
    )
