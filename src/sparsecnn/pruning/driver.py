"""Prune a whole model, layer by layer."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import torch
from torch import Tensor, nn

from sparsecnn.errors import UserError
from sparsecnn.pruning.hessian import InputMoments
from sparsecnn.pruning.inputs import PrunableLayer
from sparsecnn.pruning.layouts import check_layout, prunable_columns, to_matrix, to_weight
from sparsecnn.pruning.patterns import NM, parse_pattern
from sparsecnn.pruning.problem import Problem, Solution
from sparsecnn.pruning.result import LayerReport, PruningResult
from sparsecnn.pruning.selection import data_order, find_layers, reasons_to_stay_dense
from sparsecnn.pruning.state import evaluating, full_precision, restored_on_error
from sparsecnn.registry import resolve

logger = logging.getLogger(__name__)
