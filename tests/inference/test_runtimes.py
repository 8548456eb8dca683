"""Runtimes of exported graphs."""

import subprocess
import sys

import pytest

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
