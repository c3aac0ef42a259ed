"""`whimbrel admin events`."""

from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from services.cli.admin.client import Client, Connection
from services.cli.admin.output import Columns, print_json, print_table

app = App(name="events", help="The audit trail.", help_format="markdown")

COLUMNS: Columns = {
    "TIME": "timestamp",
    "ACTIVITY": "activity",
    "CODE": "activity_code",
    "BY": lambda row: row["initiator_name"] or row["initiator_id"],
    "TARGET": "target_id",
    "ABOUT": lambda row: {what: value for what, value in row["meta"].items() if not what.endswith("_id")},
}


@app.command(name="list")
def list_(
    *,
    limit: Annotated[int, Parameter(help="How many, at most.", validator=Number(gte=1))] = 100,
    connection: Connection = Connection(),
) -> None:
    """List what was done, newest first.

    ```
    whimbrel admin events list --limit 10
    ```
    """
    events = Client(connection).get("/events/audit")[:limit]
    if connection.json:
        print_json(events)
    else:
        print_table(events, COLUMNS)
