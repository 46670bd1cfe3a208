"""``h4hc profile``: measured costs, from the plan of what to measure to the target that uses them."""

from __future__ import annotations

import importlib

import click

# name -> (module, attribute, one-line help); the help stands here so that `h4hc profile --help` imports none of them.
_COMMANDS = {
    "plan": ("h4hc.cli.profile_run", "plan", "Write the single-operator models that a device must measure."),
    "run": ("h4hc.cli.profile_run", "run", "Measure planned models on this machine."),
    "import": ("h4hc.cli.profile_data", "import_", "Turn exported measurements into a profile."),
    "calibrate": ("h4hc.cli.profile_data", "calibrate", "Fit a device's cost model to a profile."),
    "show": ("h4hc.cli.profile_data", "show", "Show a profile and how much of a model it covers."),
}


class _Group(click.Group):
    """A group whose commands are imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}.{attribute} is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Plan measurements, take them, and let them replace the numbers of a cost model."""
