"""Entry point: registers `wavslm serve`."""

from wavslm_core.plugin import RegisterCommand, hookimpl


@hookimpl
def register_commands(register: RegisterCommand) -> None:
    register("serve", "wavslm_serve.command:serve", about="Let people talk with a language model, live.")
