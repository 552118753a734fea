"""How a network is built again without this project: a file of source, a function, arguments."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sparsecnn.errors import UserError
from sparsecnn.export.standalone import standalone
from sparsecnn.own_files import found
from sparsecnn.registry import module_of, resolve

SOURCE = "network.py"
"""Name of the file that every network's function is imported from."""


@dataclass(frozen=True)
class Construction:
    """How a network is built again."""

    builder: str
    """Where its function comes from: ``module:function``, or ``file.py:function``."""
    arguments: Mapping[str, Any]
    """The function's, by name."""
    source: str
    """Text of a file that has the function at its top level."""

    @property
    def function(self) -> str:
        """Name of the function in the file."""
        return self.builder.rpartition(":")[2]

    def loading(self, weights: str) -> str:
        """Three lines of Python that load the network from the files in the present folder."""
        given = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return (
            "import network, safetensors.torch\n"
            f"model = network.{self.function}({given}).eval()\n"
            f'model.load_state_dict(safetensors.torch.load_file("{weights}"))\n'
        )


def how_to_build(architecture: Mapping[str, Any]) -> Construction:
    """How the network of a manifest's `architecture` is built, by what else than this project.

    A network of this project comes with its source. With a `builder` of the user's it is built by
    that: a function of a package is imported from there; a file is copied, and what it imports of
    the user's own has to be brought along.

    Raises `UserError` if the file cannot be read.
    """
    builder = architecture.get("builder")
    if builder is None:
        return _of_this_project(architecture)
    module, _, function = builder.rpartition(":")
    arguments = {"num_classes": architecture["num_classes"], **architecture["arguments"]}
    if not module.endswith(".py"):
        source = f'"""See {module}."""\n\nfrom {module} import {function}\n'
        return Construction(builder, arguments, source)
    file = found(module, f"builder {builder}")
    try:
        return Construction(builder, arguments, file.read_text(encoding="utf-8"))
    except (OSError, UnicodeError) as error:
        raise UserError(f"{file}: the network's source cannot be read ({error})") from None


def _of_this_project(architecture: Mapping[str, Any]) -> Construction:
    model = architecture["model"]
    module, function = module_of("model", model), resolve("model", model).__name__
    keys = ("num_classes", "width", "image_size")
    arguments = {key: architecture[key] for key in keys}
    about = (
        f'"""{model} of sparsecnn, in one file that needs PyTorch alone.\n\n'
        'Copyright (c) 2026 the sparsecnn authors. MIT licence.\n"""\n\n'
    )
    return Construction(f"{module}:{function}", arguments, about + standalone(module, function))
