"""Measure how the code reads: python tests/bench/style.py [FOLDER...].

Prints the last column of the table of style: cyclomatic complexity, lines of functions, syntax
nodes a line of code, and how often a value is a bag of anything or is probed for.
"""

import ast
import io
import sys
import tokenize
from pathlib import Path

BRANCHES = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.comprehension,
    ast.Assert,
)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
IGNORED = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def complexity(function):
    """Count the ways through a function (McCabe), those of its inner functions left out."""
    ways, waiting = 1, list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, FUNCTIONS):
            continue
        ways += isinstance(node, BRANCHES)
        if isinstance(node, ast.BoolOp):
            ways += len(node.values) - 1
        if isinstance(node, ast.comprehension):
            ways += len(node.ifs)
        if isinstance(node, ast.Match):
            ways += len(node.cases)
        waiting += ast.iter_child_nodes(node)
    return ways


def docstrings(tree):
    """Return the lines that docstrings take."""
    lines = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)) and ast.get_docstring(node):
            text = node.body[0]
            lines.update(range(text.lineno, text.end_lineno + 1))
    return lines


def code_lines(text, tree):
    """Return the numbers of the lines that hold code."""
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in IGNORED:
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines - docstrings(tree)


def calls(tree, name):
    """Count the calls of a function by its bare name."""
    return sum(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
        for node in ast.walk(tree)
    )


def quantile(values, share):
    """Return the value below which so large a share of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0


def measure(folder):
    """Return the figures of all Python files in a folder, by name."""
    ways, lengths = [], []
    nodes = code = total = bags = probes = 0
    for path in sorted(Path(folder).rglob("*.py")):
        text = path.read_text()
        tree = ast.parse(text)
        found = [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]
        ways += [(complexity(node), f"{path}:{node.name}") for node in found]
        lengths += [(node.end_lineno - node.lineno + 1, f"{path}:{node.name}") for node in found]
        nodes += sum(1 for _ in ast.walk(tree))
        code += len(code_lines(text, tree))
        total += len(text.splitlines())
        bags += text.count("dict[str, Any]")
        probes += calls(tree, "getattr")
    numbers, sizes = [n for n, _ in ways], [n for n, _ in lengths]
    return {
        "lines": total,
        "cyclomatic complexity mean / p90 / max": (
            f"{sum(numbers) / len(numbers):.1f} / {quantile(numbers, 0.9)} / {max(numbers)}"
        ),
        "function lines median / p90 / max": (
            f"{quantile(sizes, 0.5)} / {quantile(sizes, 0.9)} / {max(sizes)}"
        ),
        "syntax nodes per code line": f"{nodes / code:.1f}",
        "dict[str, Any] / getattr(": f"{bags} / {probes}",
        "most complex": ", ".join(f"{name} {n}" for n, name in sorted(ways)[-3:][::-1]),
        "longest": ", ".join(f"{name} {n}" for n, name in sorted(lengths)[-3:][::-1]),
    }


def main(folders):
    """Print a table for each folder."""
    for folder in folders or [Path(__file__).parents[2] / "tracker"]:
        print(folder)
        for name, value in measure(folder).items():
            print(f"  {name:<40} {value}")


if __name__ == "__main__":
    main(sys.argv[1:])
