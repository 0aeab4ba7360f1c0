"""Entry point: registers the verb."""

from wavslm_core.plugin import RegisterCommand, hookimpl


@hookimpl
def register_commands(register: RegisterCommand) -> None:
    register("export", "wavslm_onnx.command:export", about="Write a model as graphs that run without torch.")
