"""`waypost settings`: the register of everything that can be configured."""

from __future__ import annotations

import click

from waypost.cli.options import output_option
from waypost.cli.output import print_document, print_table
from waypost.settings import ENV_PREFIX, register


@click.command("settings")
@output_option
def settings(output: str) -> None:
    """List every setting of the jobs with its default, unit and reason.

    Set one in a YAML file (--config), in the environment, or with --set group.field=value; the later wins.
    """
    if output != "table":
        print_document(
            [
                {
                    "name": name,
                    "environment": ENV_PREFIX + name.replace(".", "_").upper(),
                    "default": default,
                    **{key: value for key, value in about.items() if value is not None},
                }
                for name, default, about in register()
            ],
            output,
        )
        return
    columns = ("SETTING", "DEFAULT", "UNIT", "WHY")
    print_table(
        [(name, str(default), about["unit"], about["why"]) for name, default, about in register()],
        columns,
    )


commands: list[click.Command] = [settings]
