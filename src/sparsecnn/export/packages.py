"""What an export needs besides what the project installs."""

from importlib.util import find_spec

from sparsecnn.errors import UserError

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""As `export` among the optional dependencies of pyproject.toml. Imported where they are used."""


def require_packages() -> None:
    """Raise `UserError` if a package is missing; imports none."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(
            f"export: {', '.join(missing)} not installed; run `python -m pip install "
            f"{' '.join(missing)}` in the environment that runs snakemake, or set export: null"
        )
