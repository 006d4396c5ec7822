"""The house stands on its rows: a module imports only rows above it, and its own folder.

Imports inside functions count; those for type checkers only do not.
"""

import ast
from pathlib import Path

SRC = Path(__file__).parents[2] / "src" / "spct"
ROWS = [
    ["errors"],
    ["types"],
    ["configs"],
    ["correctness", "counts", "untrusted", "progress", "options"],
    ["parsing"],
    ["filling"],
    ["prompts"],
    ["output_form", "voting", "stopping"],
    ["examples", "sync"],
    ["records", "sampling", "tally"],
    ["backends"],
    ["meta"],
    ["job"],
    ["judge"],
    ["baselines", "scoring"],
    ["show"],
    ["training", "evals", "serve"],
    ["integrations"],
    ["doctor"],
    ["cli"],
]
ROW = {name: row for row, names in enumerate(ROWS) for name in names}
APART = {"training", "evals", "serve"}  # never see each other


def part(path: Path) -> str:
    return path.relative_to(SRC).with_suffix("").parts[0]


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(tree: ast.AST):
    """Yield (line, part of the package imported) of every import of the package that runs."""
    for node in ast.iter_child_nodes(tree):
        if is_for_type_checkers(node):
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            module = node.module or ""
            names = [f"spct.{alias.name}" for alias in node.names] if module == "spct" else [module]
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "a relative import"
            continue
        else:
            yield from imports(node)
            continue
        for name in names:
            if name.startswith("spct.") and name.split(".")[1] in ROW:
                yield node.lineno, name.split(".")[1]


def test_every_part_has_a_row():
    parts = {part(path) for path in SRC.rglob("*.py")} - {"__init__"}
    assert parts - ROW.keys() == set(), "a new part: give it a row"
    assert ROW.keys() - parts == set(), "a row of nothing: take it out"


def test_a_module_imports_only_rows_above_and_its_own_folder():
    wrong = []
    for path in sorted(SRC.rglob("*.py")):
        here = part(path)
        if here == "__init__":
            continue
        for line, there in imports(ast.parse(path.read_text(encoding="utf-8"))):
            if there == here and path.parent != SRC:
                continue
            if there not in ROW or ROW[there] >= ROW[here]:
                wrong.append(f"{path.relative_to(SRC)}:{line} imports {there}")
    assert wrong == []


def test_training_evaluation_and_serving_never_see_each_other():
    wrong = [
        f"{path.relative_to(SRC)}:{line} imports {there}"
        for path in sorted(SRC.rglob("*.py"))
        if part(path) in APART
        for line, there in imports(ast.parse(path.read_text(encoding="utf-8")))
        if there in APART - {part(path)}
    ]
    assert wrong == []


def test_the_rule_sees_an_import_wherever_it_stands():
    code = "def f():\n    if x:\n        from spct.cli import app\nfrom spct import judge\nimport spct.meta\n"
    hidden = "if TYPE_CHECKING:\n    from spct.cli import app\n"
    assert list(imports(ast.parse(code + hidden))) == [(3, "cli"), (4, "judge"), (5, "meta")]
