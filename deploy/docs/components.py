"""Writes services/COMPONENTS.md: who imports whom, drawn from the imports themselves. Run through `just docs`."""

from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
FILE = ROOT / "services/COMPONENTS.md"
SERVICES = ("management", "signal", "resolver", "agent", "cli")

HEAD = """# Components

Generated from the imports by `just docs`; tests/arch fails when it is not up to date. A package is one room, a file
right in a service's folder one too. An arrow points to what is imported, and every arrow points inwards: from wiring
over the shells to the core. `core`, `errors`, `ports` and `settings`, which everybody uses, are left out.
"""
EVERYWHERE = {"core", "errors", "ports", "settings", "__main__"}


def document() -> str:
    graph = grimp.build_graph("services", "shared", include_external_packages=False)
    return "\n".join([HEAD, _overview(graph), *(_service(graph, name) for name in SERVICES)])


def _overview(graph: grimp.ImportGraph) -> str:
    edges = {
        (f"services.{name}", ".".join(imported.split(".")[:2]))
        for name in SERVICES
        for module in graph.find_descendants(f"services.{name}")
        for imported in graph.find_modules_directly_imported_by(module)
        if not imported.startswith(f"services.{name}.") and imported.count(".")
    }
    return "## All\n\n" + _drawn(edges)


def _service(graph: grimp.ImportGraph, name: str) -> str:
    """The rooms of one service and of its core."""
    own = f"services.{name}"
    rooms, inner = set[tuple[str, str]](), set[tuple[str, str]]()
    for module in sorted(graph.find_descendants(own)):
        for imported in graph.find_modules_directly_imported_by(module):
            if not imported.startswith(own + "."):
                continue
            user, used = _room(module, own), _room(imported, own)
            if user != used and not {user, used} & EVERYWHERE:
                rooms.add((user, used))
            core = f"{own}.core"
            if module.startswith(core + ".") and imported.startswith(core + "."):
                inside = _room(module, core), _room(imported, core)
                if inside[0] != inside[1]:
                    inner.add(inside)
    parts = [f"## {name}\n\n{_drawn(rooms)}"]
    if inner:
        parts.append(f"### {name}/core\n\n{_drawn(inner)}")
    return "\n".join(parts)


def _room(module: str, parent: str) -> str:
    return module.removeprefix(parent + ".").split(".")[0]


def _drawn(edges: set[tuple[str, str]]) -> str:
    lines = [f"  {user.replace('.', '_')}[{user}] --> {used.replace('.', '_')}[{used}]" for user, used in sorted(edges)]
    return "\n".join(["```mermaid", "graph LR", *lines, "```", ""])


def main() -> None:
    FILE.write_text(document())


if __name__ == "__main__":
    main()
