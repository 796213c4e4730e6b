"""The rooms of the library stand one above the other: what is imported lies below, or beside.

Imports that are for types alone count, and so do those within functions.
"""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

import gpt2_tuning

PACKAGE = Path(gpt2_tuning.__file__).parent
NAME = gpt2_tuning.__name__
SMALL = "small modules"
FACADE = "public names"
ROOMS = (
    SMALL,
    "command line",
    "families",
    "config",
    "options",
    "data",
    "formats",
    "models",
    "memory",
    "runs",
    "inference",
    "serving",
    "training",
    FACADE,
    "chat",
    "commands",
    "tasks",
    "installed command",
)
"""From below: a room imports from those before it alone. docs/architecture.md says why."""
MODULES = {
    "": FACADE,
    "__main__": "installed command",
    "config": "config",
    **dict.fromkeys(("flags", "needs", "config_file", "cli"), "command line"),
    **dict.fromkeys(("memory", "fitting"), "memory"),
    "baselines": "data",
}
"""The rooms of modules that lie in no folder and are not small ones."""


@functools.cache
def modules() -> dict[str, Path]:
    """Every module, by its name below the package, `""` the package itself."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path) -> Iterator[str]:
    """The modules of the package that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name == NAME or name.startswith(f"{NAME}."):
                yield module_of(name.removeprefix(NAME).removeprefix("."))


def module_of(name: str) -> str:
    """The module that a name is, or is defined in."""
    while name not in modules():
        name = name.rpartition(".")[0]
    return name


@functools.cache
def arrows() -> set[tuple[str, str]]:
    """Each import, as the module that imports and the one imported."""
    return {
        (module, other)
        for module, path in modules().items()
        for other in imported(path)
        if module != other
    }


def room_of(module: str) -> str:
    """The room that a module is in: its folder, or what MODULES says."""
    folder, inside, _ = module.partition(".")
    if module in MODULES:
        return MODULES[module]
    return folder if inside or (PACKAGE / folder).is_dir() else SMALL


def test_every_folder_is_a_room_and_every_room_has_modules():
    assert {room_of(module) for module in modules()} == set(ROOMS)
    assert set(MODULES) <= set(modules())


def test_no_import_leads_to_a_room_above():
    back = {
        (module, other)
        for module, other in arrows()
        if ROOMS.index(room_of(other)) > ROOMS.index(room_of(module))
    }
    assert back == set()


def test_an_import_within_a_function_or_for_types_alone_counts(tmp_path):
    file = tmp_path / "module.py"
    lazy = "    from gpt2_tuning import cli, paths"
    file.write_text(f"if TYPE_CHECKING:\n{lazy}\ndef f():\n    import gpt2_tuning.data.glue\n")
    assert set(imported(file)) == {"cli", "paths", "data.glue"}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The nodes that lie on a circle, or between two: what is left without any beginning or end."""
    left = {node: set(others) for node, others in graph.items()}
    while True:
        ends = {node for node in left if not left[node] & left.keys()}
        begun = set(left).difference(*left.values()) if left else set()
        if not ends | begun:
            return sorted(left)
        left = {node: others for node, others in left.items() if node not in ends | begun}


def test_no_circle_between_modules():
    graph: dict[str, set[str]] = {module: set() for module in modules()}
    for module, other in arrows():
        graph[module].add(other)
    assert circle(graph) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c"]


def test_a_tasks_steps_meet_through_files_alone():
    """Nor does one task know another; what several share lies beside their folders."""
    for module, other in arrows():
        if module.startswith("tasks.") and other.startswith("tasks."):
            assert other.count(".") == 1, f"{module} imports {other}"


def test_a_server_is_a_command_alone_which_nothing_else_carries():
    into = {module for module, other in arrows() if room_of(other) == "serving"}
    assert {module for module in into if room_of(module) != "serving"} == {"commands.serve"}


def test_the_page_needs_nothing_that_trains_and_is_needed_by_its_command_alone():
    of_page = {(module, other) for module, other in arrows() if room_of(module) == "chat"}
    assert not {other for _, other in of_page if room_of(other) in ("training", "tasks")}
    into = {module for module, other in arrows() if room_of(other) == "chat"}
    assert {module for module in into if room_of(module) != "chat"} == {"commands.chat"}


@pytest.mark.parametrize("room", ["tasks", "commands", FACADE])
def test_nothing_depends_on_what_is_for_users_alone(room):
    above = {room, "installed command"}
    into = {module for module, other in arrows() if room_of(other) == room}
    # The version is the package's own.
    assert {room_of(module) for module in into} <= above
