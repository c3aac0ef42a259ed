"""`whimbrel admin`: the REST API from a shell."""

from cyclopts import App

app = App(
    name="admin",
    help_format="plaintext",
    help="Use the REST API: routes, groups, peers, policies, keys.",
    help_epilogue=(
        "Wherever an id is expected, a name will do as long as only one object has it. An option that takes several "
        "values is repeated. WHIMBREL_ADMIN_API and WHIMBREL_TOKEN_FILE say where the API is and who asks. "
        "Networks with resources and routers are not part of this API yet; routes do their work."
    ),
)

for _name, _help in (
    ("routes", "Networks and names behind routing peers."),
    ("groups", "Named sets of peers."),
    ("peers", "Hosts with an agent."),
    ("policies", "Who may talk to whom."),
    ("nameservers", "Which nameservers answer the questions of whom."),
    ("zones", "Names that the account itself gives addresses to."),
    ("records", "The records of a zone."),
    ("dns", "How DNS works in the account."),
    ("setup-keys", "Keys that let hosts enrol."),
    ("events", "The audit trail."),
    ("users", "People and programs that use the API."),
):
    app.command(f"services.cli.admin.{_name.replace('-', '_')}:app", name=_name, help=_help)
