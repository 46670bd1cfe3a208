"""`h4hc report`: what an existing bundle says, on the terminal and as a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from h4hc.errors import OptionError

if TYPE_CHECKING:
    from h4hc.bundle.measured import Measured


@click.command(short_help="Summarise a bundle, or write its HTML report again.")
@click.argument("build", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the HTML report to FILE."
)
@click.option("--measured", type=click.Path(path_type=Path), metavar="TRACE",
              help="Lay a trace of a real run (CSV: task,start,end) over the plan.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(build: Path, output: Path | None, measured: Path | None, as_json: bool) -> None:
    """Summarise the bundle in the folder BUILD; with -o, also write its HTML report again.

    With --measured, say what every task took against its plan, and put it into the report, too.
    """
    from h4hc.bundle.store import SCHEDULE, load_document
    from h4hc.bundle.validate import validate_document
    from h4hc.cli.summary import summary_json

    document = load_document(build)
    validate_document(document, str(build / SCHEDULE))
    found = None if measured is None else _measured(document, measured)
    if output is not None:
        _write_report(document, build, output, found)
    if as_json:
        record = summary_json(document)
        if found is not None:
            record["measured"] = found.to_json()
        click.echo(json.dumps(record, indent=2, sort_keys=True))
        return
    if found is None:
        from h4hc.cli.summary_text import print_summary

        print_summary(document)
    else:
        from h4hc.cli.measured import print_measured

        print_measured(found)
    if output is not None:
        click.echo(f"Report: {output}")


def _measured(document: dict[str, Any], trace: Path) -> Measured:
    """The trace against the schedule."""
    from h4hc.backends.profiles.reader import read_bytes
    from h4hc.bundle.measured import lay_over

    return lay_over(document, read_bytes(trace), str(trace))


def _write_report(document: dict[str, Any], build: Path, output: Path, measured: Measured | None) -> None:
    """Write the page; in the bundle only over its own report, whose new hash goes into the manifest."""
    from h4hc.bundle.manifest import fingerprint, update_manifest
    from h4hc.bundle.report import REPORT, render_report
    from h4hc.bundle.timing import replay
    from h4hc.files import write_output

    own = output.resolve() == (build / REPORT).resolve()
    if not own and output.resolve().is_relative_to(build.resolve()):
        raise OptionError(
            f"{output}: is inside the bundle",
            code="output-in-bundle",
            hint=f"write {build / REPORT} or a file elsewhere",
        )
    page = render_report(document, replay(document), measured).encode()
    write_output(output, page)
    if own:
        update_manifest(build, REPORT, fingerprint([page]))
