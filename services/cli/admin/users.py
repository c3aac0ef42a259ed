"""`whimbrel admin users`."""

from cyclopts import App

from services.cli.admin.client import Client, Connection
from services.cli.admin.output import Columns, print_json, print_object, print_table

app = App(name="users", help="People and programs that use the API.", help_format="markdown")

COLUMNS: Columns = {
    "ID": "id",
    "NAME": "name",
    "EMAIL": "email",
    "ROLE": "role",
    "STATUS": "status",
    "SERVICE USER": "is_service_user",
    "YOU": "is_current",
}


@app.command(name="list")
def list_(*, connection: Connection = Connection()) -> None:
    """List the users.

    ```
    whimbrel admin users list
    ```
    """
    users = Client(connection).get("/users")
    if connection.json:
        print_json(users)
    else:
        print_table(users, COLUMNS)


@app.command
def current(*, connection: Connection = Connection()) -> None:
    """Show whose token is used, and what it may write and read.

    ```
    whimbrel admin users current
    ```
    """
    user = Client(connection).get("/users/current")
    if connection.json:
        return print_json(user)
    modules = user.pop("permissions")["modules"]
    rights = {
        "may_write": [module for module, may in modules.items() if may["update"]],
        "may_read": [module for module, may in modules.items() if may["read"]],
    }
    return print_object(user | rights)
