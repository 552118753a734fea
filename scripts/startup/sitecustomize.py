"""What Python runs first in every job, because the Snakefile puts this folder on PYTHONPATH.

Ctrl-C ends a job at once and without a traceback, also while it is still importing torch; where
there is something to save (training), the job takes the signal over. An environment's own file of
this name, as clusters have, is run too.
"""

import importlib.util
import signal
import sys
from importlib.machinery import PathFinder
from pathlib import Path

signal.signal(signal.SIGINT, signal.SIG_DFL)

here = Path(__file__).parent
spec = PathFinder.find_spec("sitecustomize", [p for p in sys.path if Path(p) != here])
if spec and spec.loader:
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
