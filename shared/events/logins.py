"""Under which names connections meet the bus: the accounts of the server, and the user of hosts that enrol."""

BUS_ACCOUNT = "WHIMBREL"
"""Where the streams and the services are."""

HOST_ACCOUNT = "HOSTS"
"""Where every other connection is. The bus sends an answer to any subject its asker names, whatever the asker may
publish: in an account of their own, hosts can name no subject of a stream or a service (tested in tests/bus)."""

SYSTEM_ACCOUNT = "SYS"

ENROL_USER = "enrol"
"""The user that anybody with a setup key may be; the key is the password."""
