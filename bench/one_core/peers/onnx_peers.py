"""ONNX Runtime and OpenVINO, from one ONNX graph per row; packed means the weights are constants of the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from one_core.contender import Contender, NotBuilt, builder
from one_core.rows import DTYPES, EPSILON, Array, Row

Call = Callable[[], Any]
OPSET = 20
Node = tuple[str, list[str], str, dict[str, Any]]
"""Operator, inputs, output, attributes."""
FUSED_DOMAIN = "com.microsoft"


def _attention(row: Row) -> tuple[list[Node], dict[str, Array]]:
    """Attention of heads-first operands, written out."""
    sizes = row.sizes
    element = DTYPES[row.element]
    constants = {"scale": np.array(sizes["D"] ** -0.5, element)}
    nodes: list[Node] = [
        ("Mul", ["x0", "scale"], "q", {}),
        ("Transpose", ["x1"], "kt", {"perm": [0, 2, 1]}),
        ("MatMul", ["q", "kt"], "scores", {}),
    ]
    scores = "scores"
    if row.kind == "causal_attention":
        constants["mask"] = np.where(np.tri(sizes["S"], dtype=np.bool_), 0, -np.inf).astype(element)
        nodes.append(("Add", ["scores", "mask"], "masked", {}))
        scores = "masked"
    nodes += [("Softmax", [scores], "weights", {"axis": -1}), ("MatMul", ["weights", "x2"], "y", {})]
    return nodes, constants


def _graph(row: Row, fused: bool) -> tuple[list[Node], dict[str, Array]]:
    """Nodes ``(operator, inputs, output, attributes)`` and constants. Inputs are called x0, x1, ... and the result y.

    ``fused`` uses ONNX Runtime's own operators, which its optimiser would introduce in larger graphs.
    """
    if row.kind in ("attention", "causal_attention"):
        return _attention(row)
    product = "MatMulInteger" if row.element == "int8" else "MatMul"
    if row.kind == "linear_gelu" and fused:
        return [("MatMul", ["x0", "x1"], "p", {}), ("BiasGelu", ["p", "x2"], "y", {"domain": FUSED_DOMAIN})], {}
    if row.kind == "rms_norm" and fused:
        norm = {"axis": -1, "epsilon": EPSILON}
        return [("SimplifiedLayerNormalization", ["x0", "x1"], "y", norm)], {}
    rms: list[Node] = [
        ("Mul", ["x0", "x0"], "squares", {}),
        ("ReduceMean", ["squares", "axes"], "mean", {"keepdims": 1}),
        ("Add", ["mean", "epsilon"], "shifted", {}),
        ("Sqrt", ["shifted"], "root", {}),
        ("Div", ["x0", "root"], "normal", {}),
        ("Mul", ["normal", "x1"], "y", {}),
    ]
    table: Mapping[str, tuple[list[Node], dict[str, Array]]] = {
        "matmul": ([(product, ["x0", "x1"], "y", {})], {}),
        "matmul_transposed": ([("Gemm", ["x0", "x1"], "y", {"transB": 1})], {}),
        "linear_gelu": (
            [("MatMul", ["x0", "x1"], "p", {}), ("Add", ["p", "x2"], "b", {}), ("Gelu", ["b"], "y", {})],
            {},
        ),
        "softmax": ([("Softmax", ["x0"], "y", {"axis": 1})], {}),
        "layer_norm": ([("LayerNormalization", ["x0", "x1", "x2"], "y", {"axis": -1, "epsilon": EPSILON})], {}),
        "rms_norm": (rms, {"axes": np.array([1]), "epsilon": np.array(EPSILON, np.float32)}),
        "gelu": ([("Gelu", ["x0"], "y", {})], {}),
        "row_sum": ([("ReduceSum", ["x0", "axes"], "y", {"keepdims": 0})], {"axes": np.array([1])}),
        "conv2d": ([("Conv", ["x0", "x1"], "y", {"pads": [1, 1, 1, 1]})], {}),
    }
    return builder(table, row)


def _model(row: Row, inputs: list[Array], packed: bool, fused: bool) -> bytes:
    """A serialised ONNX model."""
    onnx = import_module("onnx")
    helper, numpy_helper, proto = onnx.helper, onnx.numpy_helper, onnx.TensorProto
    nodes, constants = _graph(row, fused)
    if packed:
        constants = constants | {f"x{at}": inputs[at] for at in row.weights}
    types = {"f32": proto.FLOAT, "int8": proto.INT8, "bf16": proto.BFLOAT16}
    arguments = [
        helper.make_tensor_value_info(f"x{at}", types[row.element], array.shape)
        for at, array in enumerate(inputs)
        if f"x{at}" not in constants
    ]
    rank = 1 if row.kind == "row_sum" else inputs[0].ndim
    result = helper.make_tensor_value_info(
        "y", proto.INT32 if row.element == "int8" else types[row.element], [None] * rank
    )
    graph = helper.make_graph(
        [helper.make_node(name, given, [output], **attributes) for name, given, output, attributes in nodes],
        row.kind,
        arguments,
        [result],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(FUSED_DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


class OnnxruntimePeer(Contender):
    """ONNX Runtime's CPU provider, its results bound to one buffer."""

    settings: ClassVar[str] = "CPU provider, all graph optimisations, one thread, bound results; packed: initializers"

    def __init__(self) -> None:
        self.onnxruntime: Any = import_module("onnxruntime")

    def version(self) -> str:
        """ONNX Runtime's version."""
        return str(self.onnxruntime.__version__)

    def prepare(self, row: Row, inputs: list[Array], packed: bool) -> Call:
        """A session and its bindings."""
        if row.element == "bf16":
            raise NotBuilt("no bf16 product on the CPU")
        options = self.onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        model = _model(row, inputs, packed, fused=True)
        session = self.onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        for argument in session.get_inputs():
            binding.bind_cpu_input(argument.name, inputs[int(argument.name[1:])])
        session_result = session.run(None, {each.name: inputs[int(each.name[1:])] for each in session.get_inputs()})[0]
        self._result = np.empty_like(session_result)
        value = self._result
        binding.bind_output("y", "cpu", 0, value.dtype.type, value.shape, value.ctypes.data)

        def call() -> Array:
            session.run_with_iobinding(binding)
            return value

        return call


class OpenvinoPeer(Contender):
    """OpenVINO's CPU plugin, one stream of one thread."""

    settings: ClassVar[str] = (
        "CPU, 1 stream, 1 thread, LATENCY, f32 precision (bf16 for bf16 rows); packed: constants; "
        "int8 products through FakeQuantize of both factors, results f32"
    )

    def __init__(self) -> None:
        self.openvino: Any = import_module("openvino")

    def version(self) -> str:
        """OpenVINO's version."""
        return str(self.openvino.__version__)

    def prepare(self, row: Row, inputs: list[Array], packed: bool) -> Call:
        """A compiled model, and a request that keeps its tensors."""
        core = self.openvino.Core()
        text = b""
        if row.element == "int8":
            model = self._quantized_product(row, inputs, packed)
        else:
            text = _model(row, inputs, packed, fused=False)
            model = core.read_model(text)
        precision = "bf16" if row.element == "bf16" else "f32"
        settings = {
            "INFERENCE_NUM_THREADS": 1,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precision,
            "ENABLE_CPU_PINNING": False,
        }
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        for argument in model.inputs:
            request.set_tensor(argument.any_name, self._tensor(inputs[int(argument.any_name[1:])]))

        # Tensors and constants share memory with the arrays and the text, and do not keep them alive.
        self._kept = (inputs, text, model)

        def call() -> Any:
            request.infer()
            return request.get_output_tensor(0)

        return call

    def result(self, value: Any) -> Array:
        """The output tensor as an array. OpenVINO shows bf16 as if it were f16."""
        array: Array = value.data
        return array.view(DTYPES["bf16"]) if value.element_type == self.openvino.Type.bf16 else array

    def _tensor(self, array: Array) -> Any:
        """``array`` without a copy; NumPy has no bf16 that OpenVINO knows."""
        if array.dtype.name != "bfloat16":
            return self.openvino.Tensor(array, shared_memory=True)
        return self.openvino.Tensor(array.view(np.uint8), self.openvino.Shape(array.shape), self.openvino.Type.bf16)

    def _quantized_product(self, row: Row, inputs: list[Array], packed: bool) -> Any:
        """An int8 product. Factors are multiplied as bytes only behind FakeQuantize; mere casts give f32 products."""
        ops: Any = import_module("openvino.opset13")
        parameters: list[Any] = []
        factors: list[Any] = []
        for at, array in enumerate(inputs):
            constant = packed and at in row.weights
            factor = (
                ops.constant(array) if constant else ops.parameter(array.shape, self.openvino.Type.i8, name=f"x{at}")
            )
            if not constant:
                factor.output(0).set_names({f"x{at}"})
                parameters.append(factor)
            low, high = (ops.constant(np.array(bound, np.float32)) for bound in (-128, 127))
            factors.append(ops.fake_quantize(ops.convert(factor, "f32"), low, high, low, high, 256))
        return self.openvino.Model([ops.result(ops.matmul(*factors, False, False))], parameters, row.kind)
