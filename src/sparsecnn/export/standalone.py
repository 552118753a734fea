"""A function of this project with all that it needs of it, as the text of one file."""

import ast
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from sparsecnn.errors import UserError

_OWN = __name__.partition(".")[0]


def standalone(module: str, name: str) -> str:
    """Source of `name` in `module` and of what it uses of this project, each after what it needs.

    Imports of other packages come first. Raises `UserError` if two modules mean different things
    by one name.
    """
    gathered = _Gathered()
    gathered.add(module, name)
    blocks = ["\n".join(sorted(gathered.imports)), *gathered.definitions.values()]
    return "\n\n\n".join(blocks) + "\n"


@dataclass
class _Gathered:
    imports: set[str] = field(default_factory=set)
    definitions: dict[str, str] = field(default_factory=dict)
    meanings: dict[str, str] = field(default_factory=dict)
    """Of each name the module that defines it, or the line that imports it."""

    def add(self, module: str, name: str) -> None:
        """Take what `name` is at the top level of `module`, if anything, and what that needs."""
        text = _text(module)
        node = _bindings(ast.parse(text)).get(name)
        if node is None:  # a local variable, or one of Python's own
            return
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == _OWN:
            self.add(str(node.module), name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            node.names = [alias for alias in node.names if _bound(alias) == name]
            line = ast.unparse(node)
            self._is_new(name, line)
            self.imports.add(line)
        elif self._is_new(name, module):
            for used in _names(node):
                self.add(module, used)
            self.definitions[name] = _source(text, node)

    def _is_new(self, name: str, meaning: str) -> bool:
        new = name not in self.meanings
        known = self.meanings.setdefault(name, meaning)
        if known != meaning:
            raise UserError(
                f"{name} is one thing by {known} and another by {meaning}: they cannot be in one "
                "file; rename one of them"
            )
        return new


def _text(module: str) -> str:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise UserError(f"{module}: there is no source of it")
    return Path(spec.origin).read_text(encoding="utf-8")


def _bindings(tree: ast.Module) -> dict[str, ast.stmt]:
    """The statement that gives each name of a module's top level its meaning."""
    found: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {_bound(alias): node for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: node for target in targets if isinstance(target, ast.Name)}
    return found


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _names(node: ast.stmt) -> list[str]:
    """All names in a statement, once, in the order of their first use."""
    return list(dict.fromkeys(n.id for n in ast.walk(node) if isinstance(n, ast.Name)))


def _source(text: str, node: ast.stmt) -> str:
    decorators = getattr(node, "decorator_list", [])
    first = min(part.lineno for part in [node, *decorators])
    return "\n".join(text.splitlines()[first - 1 : node.end_lineno])
