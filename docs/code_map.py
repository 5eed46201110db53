"""Names in the code map of `docs/architecture.md`: the public constants, classes and functions of each module."""

import ast
import re
from pathlib import Path

PAGE = "docs/architecture.md"
HEADING = re.compile(r"^### (\w+)", re.M)
ROW = re.compile(r"^\| `([\w/.]+\.py)` \| (.*?) \|(?: (?:[^|]* )?\|)*$")
COMMON = {"log", "register"}  # a module's logger; how a command is added


def with_names(page: str, root: Path) -> str:
    """The page with the names of each module in the third column of its row in the code map."""
    head, code_map = page.split("\n## Code map\n", 1)
    package = ""
    lines = []
    for line in code_map.split("\n"):
        if heading := HEADING.match(line):
            package = heading[1]
        path = root / package / row[1] if (row := ROW.match(line)) else None
        if row and path is not None and path.is_file():
            line = f"| `{row[1]}` | {row[2]} | {' '.join(f'`{name}`' for name in public_names(path))} |"
        elif line.startswith("| `") and line.count("|") == 3:  # a folder, or a file that is no module
            line += " |"
        elif line == "| module | holds |":
            line = "| module | holds | names |"
        elif line == "|---|---|" and lines[-1] == "| module | holds | names |":
            line = "|---|---|---|"
        lines.append(line)
    return head + "\n## Code map\n" + "\n".join(lines)


def public_names(path: Path) -> list[str]:
    """Public names that a module defines, in order."""
    names: list[str] = []
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        match statement:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                names.append(statement.name)
            case ast.Assign():
                targets = [t for target in statement.targets for t in getattr(target, "elts", [target])]
                names += [target.id for target in targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name()):
                names.append(statement.target.id)
    return [name for name in names if not name.startswith("_") and name not in COMMON]
