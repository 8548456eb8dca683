"""Runtimes of exported graphs."""

import subprocess
import sys
from typing import Any

import pytest

from emimic.inference.engine import DEFAULT, open_engine

OPEN_TWO = """
import signal
from onnx import TensorProto, helper
from emimic.inference.runtimes import open_runtime

values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", values[:1], values[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
first, second = (open_runtime("openvino", model.SerializeToString()) for _ in range(2))
del first
del second
signal.signal(signal.SIGTERM, lambda number, _: print("handled", number))
signal.raise_signal(signal.SIGTERM)
"""


def test_openvino_models_closed_in_the_order_of_opening_leave_signals_alone() -> None:
    pytest.importorskip("openvino")
    done = subprocess.run([sys.executable, "-c", OPEN_TWO], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled 15\n"), done.stderr


def test_threads_of_one_graph_of_two_leave_the_cores_to_the_other() -> None:
    engine: Any = open_engine(DEFAULT)
    for graph in (engine._graph.encoder, engine._graph.head):
        options = graph._session.get_session_options()
        assert options.get_session_config_entry("session.force_spinning_stop") == "1"
