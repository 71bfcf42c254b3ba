"""Which file of the package may import which, and how large rooms and functions may become.

Imports are read from the source: those inside functions and under TYPE_CHECKING count, too.
"""

import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import hf_bark_semantic
from hf_bark_semantic.environment import REQUIREMENTS

TESTS = Path(__file__).parent
PACKAGE = Path(hf_bark_semantic.__file__).parent
PARTS = ("backbones", "configuration", "heads", "modeling", "pipeline", "processing")
TRAVELLING = {f"{part}_bark_semantic" for part in PARTS}
FLOORS = [  # from the bottom: files import from their own room and from lower ones; the ground floor is one room
    {*TRAVELLING, "audio", "ensemble", "environment", "files", "import_hooks", "precision"},
    {"conversion", "publishing"},
    {"packaged"},
    {"bark"},
    {"voices"},
    {"corpus"},
    {"trainers"},
    {"evaluation"},
    {"pipelines"},
    {"app"},
    {"cli"},
    {"__init__"},
]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
WITHOUT_EXTRAS = {*FLOORS[0], *FLOORS[1], "packaged", "bark", "voices", "pipelines", "__init__"}
NEED_PEFT = {"bark/adapters", "bark/adapter_bundle"}
REQUIRED = {re.match(r"[\w-]+", text)[0].replace("-", "_") for text in REQUIREMENTS}


def syntax(folder: Path) -> dict[str, ast.Module]:
    """Every file below a folder by its path from there: `bark/stages`."""
    files = sorted(folder.rglob("*.py"))
    return {file.relative_to(folder).with_suffix("").as_posix(): ast.parse(file.read_text("utf-8")) for file in files}


FILES = syntax(PACKAGE)
FUNCTIONS = [
    (f"{file}.{node.name}", node)
    for file, tree in FILES.items()
    for node in ast.walk(tree)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
]


def room_of(file: str) -> str:
    return file.split("/")[0]


def imported(file: str, nodes) -> set[str]:
    """Dotted names of what a file's statements import: modules, and what is taken from them."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            folder = [PACKAGE.name, *file.split("/")][: -node.level] if node.level else []
            module = [*folder, node.module] if node.module else folder
            names |= {".".join([*module, alias.name]) for alias in node.names}
    return names


def files_imported(file: str, nodes=None) -> set[str]:
    """The package's files that one of them imports, or that some of its statements do."""
    found = set()
    for name in imported(file, nodes or ast.walk(FILES[file])):
        package, *parts = name.split(".")
        if package == PACKAGE.name:
            places = ["/".join(path) for part in (parts, parts[:-1]) for path in (part, [*part, "__init__"])]
            found.add(next(place for place in places if place in FILES))
    return found


def libraries(file: str, nodes) -> set[str]:
    return {name.split(".")[0] for name in imported(file, nodes)} - sys.stdlib_module_names - {PACKAGE.name}


def run_at_import(node):
    """The statements that importing a file executes."""
    for child in ast.iter_child_nodes(node):
        is_for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not is_for_types and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield child
            yield from run_at_import(child)


def test_no_circle_between_files():
    TopologicalSorter({file: files_imported(file) - {file} for file in FILES}).prepare()


def test_no_arrow_upwards_between_rooms():
    climbs = {}
    for file in FILES:
        room, others = room_of(file), files_imported(file)
        reach = FLOOR_OF[room] + (room in FLOORS[0])
        climbs[file] = {other for other in others if room_of(other) != room and FLOOR_OF[room_of(other)] >= reach}
    assert {file: others for file, others in climbs.items() if others} == {}


def test_the_root_has_at_most_16_files():
    files = [path.name for path in PACKAGE.iterdir() if path.is_file()]
    assert len(files) <= 16, sorted(files)


def test_the_files_that_travel_to_the_hub_need_each_other_and_three_libraries_alone():
    """But for the resampler, which the pipeline imports where it needs it: transformers skips imports in a `try`."""
    for file in TRAVELLING:
        assert files_imported(file) <= TRAVELLING
        in_try = [node for node in ast.walk(FILES[file]) if isinstance(node, ast.Try)]
        optional = {child for node in in_try for child in ast.walk(node)}
        nodes = [node for node in ast.walk(FILES[file]) if node not in optional]
        assert libraries(file, nodes) <= {"torch", "numpy", "transformers"}
        assert libraries(file, optional) <= {"torchaudio"}


def test_the_layout_of_barks_input_needs_numpy_alone():
    at_import = list(run_at_import(FILES["bark/prompting"]))
    assert libraries("bark/prompting", at_import) == {"numpy"} and not files_imported("bark/prompting", at_import)


def test_extras_are_imported_where_they_are_used():
    """Only bark/adapters needs peft; it and the bundles are themselves imported where adapters are used."""
    at_import = {file: list(run_at_import(FILES[file])) for file in FILES if room_of(file) in WITHOUT_EXTRAS}
    assert {file for file, nodes in at_import.items() if libraries(file, nodes) - REQUIRED} == {"bark/adapters"}
    users = {file for file, nodes in at_import.items() if NEED_PEFT & files_imported(file, nodes)}
    assert users == NEED_PEFT - {"bark/adapters"}


def test_no_function_is_longer_than_85_lines():
    assert [(name, node.lineno) for name, node in FUNCTIONS if node.end_lineno - node.lineno >= 85] == []


def test_no_function_has_more_than_10_arguments():
    """But for the config's constructor, whose arguments are its fields."""
    wide = {}
    for name, node in FUNCTIONS:
        arguments = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        if len(arguments) - ("self" in arguments) > 10:
            wide[name] = arguments
    assert wide.keys() == {"configuration_bark_semantic.__init__"}


def test_no_test_imports_another_test():
    for file, tree in syntax(TESTS).items():
        parts = {part for name in imported(file, ast.walk(tree)) for part in name.split(".")}
        assert not {part for part in parts if part.startswith("test_") or part in ("tests", "conftest")}, file
