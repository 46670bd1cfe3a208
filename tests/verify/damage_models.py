"""Corruptions of partitioned.onnx and of the chain of subgraphs."""

from __future__ import annotations

from onnx import ModelProto, NodeProto

from tests.verify.damage import Specimen, breaks


@breaks("S01")
def an_output_has_another_name(specimen: Specimen) -> bool:
    specimen.document["model"]["outputs"][0]["name"] = specimen.document["model"]["inputs"][0]["name"]
    return True


@breaks("S01")
def an_input_has_another_shape(specimen: Specimen) -> bool:
    specimen.document["model"]["inputs"][0]["shape"][-1] += 1
    return True


def let_a_weight_be_overridden(model: ModelProto) -> bool:
    for tensor in model.graph.initializer:
        model.graph.input.add(name=tensor.name).type.tensor_type.elem_type = tensor.data_type
        return True
    return False


@breaks("S01")
def a_weight_has_become_an_input(specimen: Specimen) -> bool:
    return let_a_weight_be_overridden(specimen.partitioned)


@breaks("S05")
def a_weight_of_a_subgraph_has_become_an_input(specimen: Specimen) -> bool:
    return any(let_a_weight_be_overridden(part) for part in specimen.parts.values())


@breaks("S02")
def a_node_belongs_to_no_operator(specimen: Specimen) -> bool:
    specimen.document["operators"][0]["nodes"].pop()
    return True


@breaks("S02")
def a_node_belongs_to_two_operators(specimen: Specimen) -> bool:
    first, second = specimen.document["operators"][:2]
    second["nodes"].append(first["nodes"][0])
    return True


@breaks("S02")
def an_operator_hides_an_input(specimen: Specimen) -> bool:
    operator = next(op for op in specimen.document["operators"] if len(op["inputs"]) > 1)
    operator["inputs"].pop()
    operator["streams"].pop()
    return True


@breaks("S02")
def an_operator_hides_an_output(specimen: Specimen) -> bool:
    specimen.document["operators"][0]["outputs"].clear()
    return True


@breaks("S02")
def nodes_are_not_in_order(specimen: Specimen) -> bool:
    nodes = specimen.partitioned.graph.node
    first = NodeProto()
    first.CopyFrom(nodes[0])
    del nodes[0]
    nodes.append(first)
    return True


@breaks("S03")
def an_attribute_has_changed(specimen: Specimen) -> bool:
    node = specimen.node("Conv")
    if node is None:
        return False
    next(a for a in node.attribute if a.ints).ints[0] += 1
    return True


@breaks("S03")
def an_operator_has_been_replaced(specimen: Specimen) -> bool:
    for before, after in (("Relu", "Neg"), ("Sigmoid", "Tanh"), ("Add", "Mul")):
        node = specimen.node(before)
        if node is not None:
            node.op_type = after
            return True
    return False


@breaks("S03")
def operands_are_swapped(specimen: Specimen) -> bool:
    for node in specimen.partitioned.graph.node:
        if len(node.input) == 2 and node.op_type == "MatMul":
            node.input[0], node.input[1] = node.input[1], node.input[0]
            return True
    return False


@breaks("S03")
def a_weight_has_changed(specimen: Specimen) -> bool:
    tensor = max(specimen.partitioned.graph.initializer, key=lambda t: len(t.raw_data))
    tensor.raw_data = bytes([tensor.raw_data[0] ^ 1]) + tensor.raw_data[1:]
    return True


@breaks("S04")
def a_node_reads_past_its_transfer(specimen: Specimen) -> bool:
    nodes = specimen.partitioned.graph.node
    transfers = {node.output[0]: node.input[0] for node in nodes if node.op_type == "Transfer"}
    for node in nodes:
        for place, name in enumerate(node.input):
            if name in transfers and node.op_type != "Transfer":
                node.input[place] = transfers[name]
                return True
    return False


@breaks("S04")
def a_transfer_computes(specimen: Specimen) -> bool:
    function = next((f for f in specimen.partitioned.functions if f.name == "Transfer"), None)
    if function is None:
        return False
    function.node[0].op_type = "Neg"
    return True


@breaks("S04")
def a_transfer_leads_to_another_device(specimen: Specimen) -> bool:
    node = specimen.node("Transfer")
    if node is None:
        return False
    target = next(a for a in node.attribute if a.name == "dst")
    names = [device["name"] for device in specimen.document["devices"]]
    target.s = next(name for name in names if name != target.s.decode()).encode()
    return True


@breaks("S05")
def a_subgraph_lost_a_node(specimen: Specimen) -> bool:
    del next(iter(specimen.parts.values())).graph.node[-1]
    return True


@breaks("S05")
def a_subgraph_has_another_attribute(specimen: Specimen) -> bool:
    for part in specimen.parts.values():
        for node in part.graph.node:
            for attribute in node.attribute:
                if node.op_type == "Conv" and attribute.ints:
                    attribute.ints[0] += 1
                    return True
    return False


@breaks("S05")
def subgraphs_run_in_the_wrong_order(specimen: Specimen) -> bool:
    specimen.index["files"].reverse()
    return len(specimen.index["files"]) > 1


@breaks("S05")
def a_subgraph_is_for_another_device(specimen: Specimen) -> bool:
    names = [device["name"] for device in specimen.document["devices"]]
    entry = specimen.index["files"][0]
    entry["device"] = next(name for name in names if name != entry["device"])
    return True


@breaks("S05")
def a_subgraph_is_missing(specimen: Specimen) -> bool:
    specimen.index["files"].pop()
    return True


@breaks("S04")
def a_transfer_claims_that_nothing_is_copied(specimen: Specimen) -> bool:
    for node in specimen.partitioned.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Transfer" and attribute.name == "copy" and attribute.i:
                attribute.i = 0
                return True
    return False


@breaks("S06")
def a_node_is_annotated_with_another_device(specimen: Specimen) -> bool:
    owner = {name: op["device"] for op in specimen.document["operators"] for name in op["nodes"]}
    node = next(node for node in specimen.partitioned.graph.node if node.name in owner)
    for entry in [entry for entry in node.metadata_props if entry.key == "h4hc.device"]:
        node.metadata_props.remove(entry)
    node.metadata_props.add(key="h4hc.device", value="nowhere")
    return True


@breaks("S06")
def a_node_is_sharded_to_another_device(specimen: Specimen) -> bool:
    for node in specimen.partitioned.graph.node:
        for configuration in node.device_configurations:
            for spec in configuration.sharding_spec:
                if node.op_type != "Transfer":
                    spec.device[0] += 1
                    return True
    return False
