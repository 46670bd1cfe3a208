"""The ONNX side of the maker: the partitioned model and one model per operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnx import ModelProto, helper

if TYPE_CHECKING:
    from tests.verify.maker import Maker


def partitioned(maker: Maker) -> ModelProto:
    """The model with a Transfer per (tensor, device) wherever a tensor changes device."""
    model = ModelProto()
    model.CopyFrom(maker.model)
    model.ClearField("functions")
    model.opset_import.add(domain="ai.h4hc", version=1)
    model.functions.append(
        helper.make_function(
            "ai.h4hc",
            "Transfer",
            ["x"],
            ["y"],
            [helper.make_node("Identity", ["x"], ["y"])],
            [helper.make_opsetid("", 17)],
            attributes=["src", "dst", "tensor", "bytes", "copy"],
        )
    )
    graph = model.graph
    del graph.node[:]
    outputs = [value.name for value in graph.output]
    device_of = {name: op.device for op in maker.ops for node in op.nodes for name in node.output}
    local: dict[tuple[str, str], str] = {}
    for name in outputs:
        if maker.memory[device_of[name]] != "dram":
            local[name, device_of[name]] = f"{name}@{device_of[name]}"
    inputs = {value.name for value in graph.input}

    def transfer(name: str, source: str, target: str, result: str) -> str:
        before = local.get((name, source), name)
        crosses = maker.memory[source] != maker.memory[target]
        labels: dict[str, Any] = {"tensor": maker.root(name), "bytes": maker.size(name), "copy": int(crosses)}
        graph.node.append(
            helper.make_node(
                "Transfer",
                [before],
                [result],
                f"T:{name}@{target}",
                domain="ai.h4hc",
                src=source,
                dst=target,
                **labels,
            )
        )
        local[name, target] = result
        return result

    def read(name: str, device: str) -> str:
        if (name, device) in local:
            return local[name, device]
        if name in device_of and device_of[name] != device:
            final = name in outputs and device == "host" and maker.memory[device_of[name]] != "dram"
            return transfer(name, device_of[name], device, name if final else f"{name}@{device}")
        if name in inputs and maker.memory[device] != "dram":
            return transfer(name, "host", device, f"{name}@{device}")
        return name

    for op in maker.ops:
        for node in op.nodes:
            names = [read(name, op.device) for name in node.input]
            copy = graph.node.add()
            copy.CopyFrom(node)
            copy.input[:] = names
            copy.output[:] = [local.get((name, op.device), name) for name in node.output]
    for name in outputs:
        if maker.memory[device_of[name]] != "dram" and (name, "host") not in local:
            transfer(name, device_of[name], "host", name)
    return model


def chain(maker: Maker) -> list[tuple[dict[str, Any], ModelProto]]:
    """One model per operator."""
    chain = []
    values = {
        v.name: v
        for v in (*maker.model.graph.value_info, *maker.model.graph.input, *maker.model.graph.output)
    }
    for index, op in enumerate(maker.ops):
        weights = [t for t in maker.model.graph.initializer if any(t.name in node.input for node in op.nodes)]
        graph = helper.make_graph(
            op.nodes, op.name, [values[n] for n in op.inputs], [values[n] for n in op.outputs], weights
        )
        part = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        entry = {
            "file": f"{index:02d}_{op.device}.onnx", "device": op.device, "level": index,
                "inputs": op.inputs,
            "outputs": op.outputs, "operators": [op.name],
        }  # fmt: skip
        chain.append((entry, part))
    return chain
