"""Networks of a user's own: the function that builds one, from a file or a package."""

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from torch import nn

from sparsecnn.errors import UserError, in_a_line
from sparsecnn.own_files import builder_file, found


def build_own(builder: str, num_classes: int, arguments: Mapping[str, Any]) -> nn.Module:
    """Call ``builder(num_classes=..., **arguments)``.

    Parameters
    ----------
    builder
        ``nets.py:build``, a file beside the configuration or in the working directory, or
        ``package.module:function``.

    Raises
    ------
    UserError
        One line if there is no such function, it raises, or what it returns is no network whose
        weights all have a shape.
    """
    what = f"builder {builder}"
    function = _function(builder)
    called = ", ".join(f"{k}={v!r}" for k, v in {"num_classes": num_classes, **arguments}.items())
    try:
        model = function(num_classes=num_classes, **arguments)
    except Exception as error:  # whatever a user's code raises
        raise UserError(f"{what}: called with {called}, {_said(error)}") from None
    if not isinstance(model, nn.Module):
        kind = type(model).__name__
        raise UserError(f"{what}: returns a {kind}; it has to return a torch.nn.Module")
    lazy = [name for name, own in model.named_parameters() if nn.parameter.is_lazy(own)]
    if lazy:
        raise UserError(
            f"{what}: parameter {lazy[0]} has no shape yet (a lazy module); give it one, or call "
            "the network once in the builder"
        )
    return model


def _function(builder: str) -> Callable[..., Any]:
    """The function that a builder names; `UserError` if there is none."""
    target, _, name = builder.rpartition(":")
    what = f"builder {builder}"
    file = builder_file(builder)
    try:
        module = _from_file(found(file, what)) if file else importlib.import_module(target)
    except UserError:
        raise
    except ModuleNotFoundError as error:
        raise UserError(f"{what}: there is no module {error.name}; is it installed?") from None
    except Exception as error:  # whatever a user's code raises
        raise UserError(f"{what}: importing it, {_said(error)}") from None
    function: Any = module
    for part in name.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        there = [n for n, own in vars(module).items() if inspect.isfunction(own) and n[0] != "_"]
        listed = ", ".join(there[:8]) or "none"
        raise UserError(f"{what}: {target} has no function {name} (functions there: {listed})")
    return cast(Callable[..., Any], function)


def _from_file(path: Path) -> Any:
    """The module in a file, which may import what lies beside it; each file is run once."""
    name = f"sparsecnn_own_{path.stem}"
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__file__ == str(path.resolve()):
        return loaded
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.pop(0)
    return module


def _said(error: Exception) -> str:
    """An exception in a line, with the last place of it unless that is the call itself."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f" ({Path(last.filename).name}, line {last.lineno})"
    here = last.filename == __file__
    return f"it raises {type(error).__name__}: {in_a_line(error)}{'' if here else place}"
