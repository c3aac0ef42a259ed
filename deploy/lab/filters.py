"""Packets that a lab loses on purpose: one chain in a table of its own, away from Whimbrel's."""

import contextlib

from deploy.lab.netns import CommandFailed, Namespace, run


def load(host: Namespace, family: str, table: str, hook: str, *rules: str) -> None:
    """Put the table there. hook: as nft has it, without the semicolon; rules: in order."""
    lines = (f"table {family} {table} {{", "chain c {", hook, *rules, "}", "}")
    file = host.wireguard.parent / f"{table}.nft"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
    run(*host.command(["nft", "-f", str(file)]))


def unload(host: Namespace, family: str, table: str) -> None:
    """Take it away, whether it is there or not."""
    with contextlib.suppress(CommandFailed):
        run(*host.command(["nft", "delete", "table", family, table]))
