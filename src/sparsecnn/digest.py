"""Digest of exactly the code that a job runs.

Snakemake does not track imported modules. Each rule therefore declares, as a param, a digest
over its script and every `sparsecnn` module that the script reaches through imports.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import grimp

from sparsecnn.errors import UserError

EXCLUDED = frozenset({"sparsecnn", "sparsecnn.registry"})
"""Modules whose text does not count: they name others, and what a job uses of these is digested."""


class CodeDigest:
    """Digests of the scripts of one source tree; the import graph is built once."""

    def __init__(self, scripts: Path, package: Path) -> None:
        self._scripts = scripts
        self._package = package
        self._graph = grimp.build_graph(package.name, cache_dir=None)
        self._texts: dict[Path, str] = {}
        self._own: dict[Path, dict[str, str]] = {}
        self._digests: dict[tuple[str, ...], str] = {}

    @classmethod
    def of_this_project(cls) -> Self:
        """Of the source tree that this very module lies in."""
        package = Path(__file__).parent
        return cls(package.parents[1] / "scripts", package)

    def of(self, script: str, modules: Iterable[str] = (), own: Iterable[Path] = ()) -> str:
        """Hexadecimal digest (16 digits) of `script` and all that it and `modules` import.

        Parameters
        ----------
        script
            File name inside the scripts folder.
        modules
            Dotted names of further modules that the job loads by name (registry entries).
        own
            Files of the user's own that the job loads; what they import beside them counts too.

        Raises `UserError` if one of the user's files is no Python.
        """
        key = (script, *modules, *map(str, own))
        if key not in self._digests:
            self._digests[key] = self._compute(script, list(modules), list(own))
        return self._digests[key]

    def _compute(self, script: str, modules: list[str], own: list[Path]) -> str:
        path = self._scripts / script
        roots = {*_imports(path, self._graph.modules), *modules}
        closure = set(roots).union(*(self._graph.find_upstream_modules(m) for m in roots))
        # Importing a module runs its packages too. Their text counts, not all that they import.
        closure |= {".".join(m.split(".")[:n]) for m in closure for n in range(1, m.count(".") + 1)}
        digest = hashlib.sha256(self._canonical(path).encode())
        for module in sorted(closure - EXCLUDED):
            digest.update(f"\n# {module}\n{self._canonical(self._file(module))}".encode())
        for file in own:
            if file not in self._own:
                self._own[file] = own_code(file)
            for name, text in self._own[file].items():
                digest.update(f"\n# {name}\n{text}".encode())
        return digest.hexdigest()[:16]

    def _file(self, module: str) -> Path:
        path = self._package.parent.joinpath(*module.split("."))
        return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")

    def _canonical(self, path: Path) -> str:
        if path not in self._texts:
            self._texts[path] = canonical_code(path.read_text(encoding="utf-8"))
        return self._texts[path]


def own_code(file: Path) -> dict[str, str]:
    """Canonical code of a user's file and of all that it imports, directly or not, beside it.

    By path from the file's folder, so that it does not matter where that lies. Raises `UserError`
    if one of them is no Python.
    """
    folder, found, waiting = file.parent, dict[str, str](), [file]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(folder).as_posix()
        if name not in found:
            try:
                text = path.read_text(encoding="utf-8")
                found[name] = canonical_code(text)
            except SyntaxError as error:
                raise UserError(f"{path}, line {error.lineno}: {error.msg}") from None
            except (OSError, ValueError) as error:
                raise UserError(f"{path}: cannot be read as Python ({error})") from None
            there = (p for p in _beside(path, folder, ast.parse(text)) if p.is_file())
            waiting += [p for p in there if p.is_relative_to(folder)]
    return dict(sorted(found.items()))


def _beside(path: Path, folder: Path, tree: ast.AST) -> Iterator[Path]:
    """Where the modules that a file imports would lie in its folder, or in its package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names, base = [alias.name for alias in node.names], folder
        elif isinstance(node, ast.ImportFrom):
            base = path.parents[node.level - 1] if node.level else folder
            own = node.module or ""
            names = [own, *(f"{own}.{alias.name}".lstrip(".") for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".") if name else []
            for n in range(1, len(parts) + 1):
                yield base.joinpath(*parts[:n]).with_suffix(".py")
                yield base.joinpath(*parts[:n], "__init__.py")


def canonical_code(source: str) -> str:
    """Source text reduced to what runs: no comments, docstrings or formatting.

    As text of its syntax tree, the same whichever version of Python parsed it.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [s for s in body if not _is_bare_string(s)]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
        if isinstance(node, ast.JoinedStr):  # Python 3.12 alone finds empty texts in some
            node.values = [v for v in node.values if not isinstance(v, ast.Constant) or v.value]
    return _written(tree)


def _written(part: object) -> str:
    """A part of a syntax tree as text that is the same in every Python.

    `ast.unparse` chooses quotes in f-strings by what its own Python can read, and `ast.dump` names
    fields that others have not. Here what is empty is left out, as every new field is where it is
    not used.
    """
    if isinstance(part, list):
        return f"[{', '.join(map(_written, part))}]"
    if not isinstance(part, ast.AST):
        return ascii(part)
    fields = ((name, value) for name, value in ast.iter_fields(part) if value not in (None, []))
    return f"{type(part).__name__}({', '.join(f'{n}={_written(v)}' for n, v in fields)})"


def _is_bare_string(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _imports(script: Path, known: set[str]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found & known
