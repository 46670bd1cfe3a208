"""partitioned.onnx and subgraphs/: what they compute, and what they say about devices."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnx.inliner
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto, helper, parser

from h4hc.backends import load_target
from h4hc.ir.compilation import Compilation
from tests.bundle.bundle_builder import EXAMPLE_DEVICES, by_name, compile_by_hand, example_model, written
from tests.bundle.bundle_runs import (
    assert_bundle_computes,
    assert_identical,
    random_feed,
    random_models,
    run,
    run_chain,
)

DEVICES = ("npu", "cim", "host")


def load(bundle: Path, name: str = "partitioned.onnx") -> ModelProto:
    return onnx.load(str(bundle / name))


def attributes(node: NodeProto) -> dict[str, object]:
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in found.items()}


def transfers(model: ModelProto) -> list[NodeProto]:
    return [node for node in model.graph.node if node.op_type == "Transfer"]


def properties(proto: NodeProto | ModelProto) -> dict[str, str]:
    return {p.key: p.value for p in proto.metadata_props}


def index_of(bundle: Path) -> list[dict[str, object]]:
    files: list[dict[str, object]] = json.loads((bundle / "subgraphs/index.json").read_text())["files"]
    return files


def model_of(text: str) -> ModelProto:
    return parser.parse_model(text)


def test_example_computes_what_the_original_does(example_bundle: Path) -> None:
    assert_bundle_computes(example_bundle, example_model())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(model=random_models(), seed=st.randoms(use_true_random=False))
def test_any_placement_of_any_graph_computes_what_the_original_does(model: ModelProto, seed: object) -> None:
    compilation = compile_by_hand(model, lambda node: seed.choice(DEVICES))  # type: ignore[attr-defined]
    with TemporaryDirectory() as folder:
        assert_bundle_computes(written(compilation, Path(folder, "build")), model)


def test_nodes_and_transfers_of_the_example(example_bundle: Path) -> None:
    lines = [f"{n.op_type}: {' '.join(n.input)} -> {n.output[0]}" for n in load(example_bundle).graph.node]
    assert lines == [
        "Conv: image w1 -> a",
        "Transfer: a -> a@host",
        "Relu: a@host -> b",
        "Transfer: b -> b@cim",
        "Conv: b@cim w2 -> features@cim",
        "Reshape: features@cim flat_shape -> flat",
        "Slice: flat zero sixtyfour -> part",
        "Transfer: part -> part@npu",
        "Reshape: raw weight_shape -> table",
        "Transpose: table -> line",
        "Mul: part@npu line -> scaled",
        "Transfer: scaled -> scaled@cim",
        "Reshape: raw weight_shape -> table@cim",
        "Transpose: table@cim -> line@cim",
        "Add: scaled@cim line@cim -> scores@cim",
        "Transfer: scores@cim -> scores",
        "Transfer: features@cim -> features",
    ]


def test_transfers_say_what_they_move(example_bundle: Path) -> None:
    handoff, copy = transfers(load(example_bundle))[:2]
    assert attributes(handoff) == {"src": "npu", "dst": "host", "tensor": "a", "bytes": 256, "copy": 0}
    assert attributes(copy) == {"src": "host", "dst": "cim", "tensor": "b", "bytes": 256, "copy": 1}
    assert properties(copy)["h4hc.seconds"] == "1.5e-06"
    assert "h4hc.seconds" not in properties(handoff)


def test_a_view_that_changes_device_names_the_tensor_that_owns_the_storage(tmp_path: Path) -> None:
    model = model_of("""<ir_version: 10, opset_import: ["" : 17]>
        g (float[2, 3] x) => (float[6] z) <int64[1] flat = {6}>
        { [make] a = Relu (x)  [view] v = Reshape (a, flat)  [use] z = Neg (v) }""")
    bundle = written(compile_by_hand(model, by_name({"make": "npu", "use": "cim"})), tmp_path / "build")
    first = transfers(load(bundle))[0]
    assert list(first.input) == ["v"]
    assert attributes(first)["tensor"] == "a"
    assert_bundle_computes(bundle, model)


def test_inputs_are_transferred_only_to_devices_with_another_memory(tmp_path: Path) -> None:
    model = model_of("""<ir_version: 10, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] p, float[2] q) { [n] p = Relu (x)  [c] q = Neg (x) }""")
    bundle = written(compile_by_hand(model, by_name({"n": "npu", "c": "cim"})), tmp_path / "build")
    assert [(list(n.input), list(n.output)) for n in transfers(load(bundle))] == [
        (["x"], ["x@cim"]),
        (["q@cim"], ["q"]),
    ]


def test_the_interface_is_that_of_the_original(example_bundle: Path) -> None:
    original, model = example_model(), load(example_bundle)
    assert list(model.graph.input) == list(original.graph.input)
    assert list(model.graph.output) == list(original.graph.output)
    assert list(model.graph.initializer) == list(original.graph.initializer)
    assert model.ir_version == 11
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17), ("ai.h4hc", 1)]


def test_overridable_initializers_stay_overridable(tmp_path: Path) -> None:
    model = model_of("""<ir_version: 8, opset_import: ["" : 9]>
        old (float[2] x, float[2] w) => (float[2] z) <float[2] w = {1, 2}> { [n] z = Mul (x, w) }""")
    bundle = written(compile_by_hand(model, by_name({}, "cim")), tmp_path / "build")
    feed = random_feed(model)
    doubled = feed | {"w": feed["x"] * 2}
    partitioned = str(bundle / "partitioned.onnx")
    assert_identical(run(model.SerializeToString(), doubled), run(partitioned, doubled))
    assert_bundle_computes(bundle, model)
    subgraph = str(bundle / "subgraphs/00_cim.onnx")
    assert_identical(run(model.SerializeToString(), doubled), run(subgraph, doubled))


@pytest.mark.parametrize("ir_version, opset", [(8, 7), (8, 13), (10, 21), (12, 23), (13, 26)])
def test_every_opset_and_ir_version_that_onnxruntime_takes(
    tmp_path: Path, ir_version: int, opset: int
) -> None:
    model = model_of(f"""<ir_version: {ir_version}, opset_import: ["" : {opset}]>
        g (float[2] x) => (float[2] z) {{ [a] y = Relu (x)  [b] z = Neg (y) }}""")
    bundle = written(compile_by_hand(model, by_name({"b": "cim"})), tmp_path / "build")
    assert load(bundle).ir_version == max(11, ir_version)
    assert_bundle_computes(bundle, model)


def test_a_model_without_the_default_domain(tmp_path: Path) -> None:
    model = model_of("""<ir_version: 10, opset_import: ["ai.onnx.ml" : 3]>
        g (float[1, 4] x) => (float[1, 4] z) { [b] z = ai.onnx.ml.Binarizer <threshold: float = 0.5> (x) }""")
    bundle = written(compile_by_hand(model, by_name({}, "cim")), tmp_path / "build")
    assert_bundle_computes(bundle, model)
    assert [o.domain for o in load(bundle, "subgraphs/00_cim.onnx").opset_import] == ["ai.onnx.ml"]


def test_outputs_that_no_operator_computes(tmp_path: Path) -> None:
    model = model_of("""<ir_version: 10, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] z, float[2] c, float[2] w) <float[2] w = {1, 2}>
        { [k] c = Neg (w)  [n] z = Mul (x, c) }""")
    bundle = written(compile_by_hand(model, by_name({"n": "cim"})), tmp_path / "build")
    assert_bundle_computes(bundle, model)
    names = [n.name for n in load(bundle).graph.node]
    assert "k" in names and "k@cim" in names
    assert [(f["file"], f["outputs"]) for f in index_of(bundle)] == [
        ("00_cim.onnx", ["z"]),
        ("01_host.onnx", ["c", "w"]),
    ]


def test_a_graph_that_passes_its_input_through(tmp_path: Path) -> None:
    model = model_of("""<ir_version: 10, opset_import: ["" : 17]>
        g (float[2] x, float[2] y) => (float[2] z) { [n] z = Relu (x) }""")
    model.graph.output.append(model.graph.input[1])
    bundle = written(compile_by_hand(model, by_name({}, "cim")), tmp_path / "build")
    feed = random_feed(model)
    expected = run(model.SerializeToString(), feed)
    assert_identical(expected, run(str(bundle / "partitioned.onnx"), feed))
    assert_identical(expected, run_chain(bundle, feed))


def test_new_names_avoid_names_of_the_model(tmp_path: Path) -> None:
    model = model_of("""<ir_version: 10, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] z)
        { [a] y = Relu (x)  [b] "y@cim" = Neg (y)  [c] z = Add ("y@cim", y) }""")
    bundle = written(compile_by_hand(model, by_name({"a": "npu"}, "cim")), tmp_path / "build")
    assert [n.output[0] for n in load(bundle).graph.node][:3] == ["y", "y@cim.2", "y@cim"]
    assert_bundle_computes(bundle, model)


def test_files_list_the_overridable_initializers_that_they_use(tmp_path: Path) -> None:
    model = model_of("""<ir_version: 10, opset_import: ["" : 17]>
        g (float[1, 4] x, float[4, 4] w, float[4] b) => (float[1, 4] y, float[4] d)
        <float[4] b = {1, 2, 3, 4}, float[4] f = {4, 3, 2, 1}>
        { [m] p = MatMul (x, w)  [a] q = Add (p, b)  [n] d = Neg (b)  [s] y = Mul (q, f) }""")
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 4], [0.1 * i for i in range(16)])
    model.graph.initializer.append(weight)
    bundle = written(compile_by_hand(model, by_name({"m": "npu", "a": "cim"}, "host")), tmp_path / "build")
    assert_bundle_computes(bundle, model)
    inputs = {str(f["file"]): f["inputs"] for f in index_of(bundle)}
    listed = {file: [i.name for i in load(bundle, f"subgraphs/{file}").graph.input] for file in inputs}
    assert inputs == {"00_npu.onnx": ["x"], "01_host.onnx": [], "02_cim.onnx": ["p"], "03_host.onnx": ["q"]}
    assert listed == {
        "00_npu.onnx": ["x", "w"],
        "01_host.onnx": ["b"],
        "02_cim.onnx": ["p", "b"],
        "03_host.onnx": ["q"],
    }


def test_sparse_initializers(tmp_path: Path) -> None:
    model = model_of("""<ir_version: 10, opset_import: ["" : 17]>
        g (float[4] x) => (float[4] z) { [n] z = Relu (x) }""")
    values = helper.make_tensor("s", TensorProto.FLOAT, [2], [1.0, 2.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [2], [0, 2])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    model.graph.node[0].CopyFrom(helper.make_node("Add", ["x", "s"], ["z"], name="n"))
    inferred = compile_by_hand(model, by_name({}, "cim"))
    bundle = written(inferred, tmp_path / "build")
    feed = random_feed(model)
    expected = run(model.SerializeToString(), feed)
    assert_identical(expected, run(str(bundle / "partitioned.onnx"), feed))
    assert_identical(expected, run_chain(bundle, feed))


def test_constant_chains_of_any_depth(tmp_path: Path) -> None:
    depth = 3000
    nodes = [helper.make_node("Neg", [f"c{i}"], [f"c{i + 1}"], name=f"n{i}") for i in range(depth)]
    nodes.append(helper.make_node("Mul", ["x", f"c{depth}"], ["z"], name="use"))
    port = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("x", "z")]
    start = helper.make_tensor("c0", TensorProto.FLOAT, [1], [2.0])
    graph = helper.make_graph(nodes, "deep", [port[0]], [port[1]], [start])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    bundle = written(compile_by_hand(model, by_name({}, "cim")), tmp_path / "build")
    assert len(load(bundle).graph.node) == depth + 1 + 2


def test_multi_device_annotations(example_bundle: Path) -> None:
    model = load(example_bundle)
    (configuration,) = model.configuration
    assert (configuration.name, list(configuration.device)) == ("npu+cim", ["npu", "cim", "host"])
    stages = {}
    for node in model.graph.node:
        (annotation,) = node.device_configurations
        assert annotation.configuration_id == "npu+cim"
        stages[node.name] = annotation.pipeline_stage
        assert [spec.tensor_name for spec in annotation.sharding_spec] == [o for o in node.output if o]
        device = configuration.device[annotation.sharding_spec[0].device[0]]
        assert properties(node)["h4hc.device"] == properties(node)["layer_ann"] == device
    assert [stages[n] for n in ("first", "act", "second", "flatten", "scale", "shift")] == [0, 1, 2, 2, 3, 4]


def test_costs_stand_at_the_anchor_node_only(example_bundle: Path, example: Compilation) -> None:
    nodes = {n.name: properties(n) for n in load(example_bundle).graph.node}
    assert nodes["second"]["h4hc.operator"] == nodes["flatten"]["h4hc.operator"] == "second"
    assert example.costs is not None
    cost = example.costs.rows[2]["cim"][0]  # type: ignore[index]
    assert nodes["second"]["h4hc.seconds"] == repr(cost.seconds)
    assert nodes["second"]["h4hc.source"] == "analytical"
    assert "h4hc.seconds" not in nodes["flatten"]
    assert properties(load(example_bundle))["h4hc.target"] == "npu+cim"


def test_compiling_a_partitioned_model_again_replaces_its_annotations(
    example_bundle: Path, tmp_path: Path
) -> None:
    model = onnx.inliner.inline_local_functions(load(example_bundle))
    again = written(compile_by_hand(model, by_name({}, "npu")), tmp_path / "build")
    for node in load(again).graph.node:
        keys = [p.key for p in node.metadata_props]
        assert len(keys) == len(set(keys))
        assert properties(node)["h4hc.device"] == "npu"
        assert len(node.device_configurations) == 1
    assert len(load(again).configuration) == 1


def test_nodes_come_in_queue_order(example_bundle: Path) -> None:
    document = json.loads((example_bundle / "schedule.json").read_text())
    tasks = {task["id"]: task for task in document["tasks"]}
    emitted = [properties(n).get("h4hc.operator") for n in load(example_bundle).graph.node]
    order = [name for name in dict.fromkeys(emitted) if name]
    for device in DEVICES:
        queue = [tasks[i]["operator"] for i in document["queues"].get(device, [])]
        assert sorted(queue, key=order.index) == queue


def test_segments_of_the_example(example_bundle: Path) -> None:
    assert [(f["file"], f["level"], f["inputs"], f["outputs"]) for f in index_of(example_bundle)] == [
        ("00_npu.onnx", 0, ["image"], ["a"]),
        ("01_host.onnx", 1, ["a"], ["b"]),
        ("02_cim.onnx", 2, ["b"], ["features", "part"]),
        ("03_npu.onnx", 3, ["part"], ["scaled"]),
        ("04_cim.onnx", 4, ["scaled"], ["scores"]),
    ]


def test_a_segment_holds_only_what_it_uses(example_bundle: Path) -> None:
    used = {f["file"]: load(example_bundle, f"subgraphs/{f['file']}") for f in index_of(example_bundle)}
    assert [t.name for t in used["00_npu.onnx"].graph.initializer] == ["w1"]
    assert [t.name for t in used["04_cim.onnx"].graph.initializer] == ["raw", "weight_shape"]
    assert not used["04_cim.onnx"].functions
    assert [o.domain for o in used["04_cim.onnx"].opset_import] == [""]
    for model in used.values():
        onnx.checker.check_model(model, full_check=True)


def test_operators_of_one_level_and_device_share_a_segment(tmp_path: Path) -> None:
    # The branch that runs on cim must not be split by the one on npu that starts between its operators.
    model = model_of("""<ir_version: 10, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] z)
        { [a] p = Relu (x)  [b] q = Neg (x)  [c] r = Neg (p)  [d] s = Neg (q)  [e] z = Add (r, s) }""")
    bundle = written(compile_by_hand(model, by_name({"a": "cim", "c": "cim"})), tmp_path / "build")
    assert [(f["device"], f["operators"]) for f in index_of(bundle)] == [
        ("npu", ["b", "d"]),
        ("cim", ["a", "c"]),
        ("npu", ["e"]),
    ]


def test_hundred_segments_keep_their_order_by_name(tmp_path: Path) -> None:
    count = 101
    nodes = [helper.make_node("Neg", [f"t{i}"], [f"t{i + 1}"], name=f"n{i}") for i in range(count)]
    port = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("t0", f"t{count}")]
    graph = helper.make_graph(nodes, "long", [port[0]], [port[1]])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    bundle = written(compile_by_hand(model, lambda n: DEVICES[int(n.name[1:]) % 2]), tmp_path / "build")
    names = [f["file"] for f in index_of(bundle)]
    assert names[0] == "000_npu.onnx"
    assert names == sorted(names)  # type: ignore[type-var]
    assert_bundle_computes(bundle, model)


def test_a_node_that_no_operator_owns_is_a_bug_unless_it_is_constant(tmp_path: Path) -> None:
    compilation = compile_by_hand(example_model(), EXAMPLE_DEVICES)
    compilation.model.graph.node.append(helper.make_node("Neg", ["b"], ["stray"], name="stray"))
    with pytest.raises(ValueError, match="node stray belongs to no operator but reads b"):
        written(compilation, tmp_path / "build")
    assert list(tmp_path.iterdir()) == []


def test_a_single_device_target_needs_no_transfers(tmp_path: Path) -> None:
    model = example_model()
    bundle = written(compile_by_hand(model, by_name({}, "npu"), load_target("npu")), tmp_path / "build")
    assert transfers(load(bundle)) == []
    assert [f["file"] for f in index_of(bundle)] == ["00_npu.onnx"]
    assert_bundle_computes(bundle, model)
