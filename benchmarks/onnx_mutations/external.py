"""Mutations of external data: every way out of the model's folder, and files that are none."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import numpy as np
import onnx
from onnx import TensorProto

from benchmarks.onnx_mutations.catalogue import choose, mutation

_EXTERNAL = ("external",)


def _set(tensor: TensorProto, key: str, value: str) -> None:
    for entry in tensor.external_data:
        if entry.key == key:
            entry.value = value


@mutation(samples=_EXTERNAL, weight=4)
def location(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    outside = (folder / "../outside/secret.bin").resolve()
    places = (
        "../outside/secret.bin", "./../outside/secret.bin", "sub/../../outside/secret.bin", str(outside),
        "/dev/zero", "/dev/stdin", "/proc/self/environ", "/proc/self/mem", "file:///etc/passwd",
        "..\\outside\\secret.bin", "C:\\secret.bin", "\\\\host\\share", "~/secret.bin", "", ".", "..",
        "/", "\x00",
        "a" * 5000, "weights.bin/../../outside/secret.bin", "sub/weights.bin", "model.onnx",
        "weights.bin\x00x",
        "//" + str(outside), "$HOME/secret.bin", "%2e%2e/outside/secret.bin", "weights.bin/", "WEIGHTS.BIN",
    )  # fmt: skip
    _set(choose(random, model.graph.initializer), "location", random.choice(places))
    return model


@mutation(samples=_EXTERNAL, weight=4)
def special_file(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The data file is a link, a device, a pipe, a folder, unreadable, or not as long as it says."""
    data, outside = folder / "weights.bin", folder.parent / "outside"
    content = data.read_bytes()
    kind = random.choice(
        ("link out", "link to link", "link in", "folder link", "fifo", "folder", "zero", "hard link",
         "loop", "dangling", "short", "empty", "sparse", "process")
    )  # fmt: skip
    data.unlink()
    if kind == "link out":
        data.symlink_to(outside / "secret.bin")
    elif kind == "link to link":
        (folder / "hop").symlink_to(outside / "secret.bin")
        data.symlink_to("hop")
    elif kind == "link in":
        (folder / "real.bin").write_bytes(content)
        data.symlink_to("real.bin")
    elif kind == "folder link":
        (folder / "sub").symlink_to(outside)
        for tensor in model.graph.initializer:
            _set(tensor, "location", "sub/secret.bin")
    elif kind == "fifo":
        os.mkfifo(data)
    elif kind == "folder":
        data.mkdir()
    elif kind == "zero":
        data.symlink_to("/dev/zero")
    elif kind == "hard link":
        os.link(outside / "secret.bin", data)
    elif kind == "loop":
        data.symlink_to("weights.bin")
    elif kind == "dangling":
        data.symlink_to("absent.bin")
    elif kind == "process":
        data.symlink_to("/proc/self/mem")
    else:
        data.write_bytes(content[: {"short": 70, "empty": 0}.get(kind, len(content))])
        if kind == "sparse":
            os.truncate(data, 2**40)
    return model


@mutation(samples=_EXTERNAL, weight=4)
def extent(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Offset, length and dims that do not belong together."""
    tensor = choose(random, model.graph.initializer)
    values = (
        "-1",
        "0",
        "1",
        "63",
        str(2**31),
        str(2**62),
        str(2**64),
        "9" * 5000,
        "",
        "0x10",
        "1e3",
        " 8",
        "٣",
        "abc",
    )
    kind = random.choice(("offset", "offset", "length", "dims", "dtype", "raw", "twice", "key"))
    if kind in ("offset", "length"):
        _set(tensor, kind, random.choice(values))
    elif kind == "dims":
        tensor.dims[random.randrange(len(tensor.dims))] = random.choice((0, -1, -4, 1, 2**31, 2**62))
        if random.random() < 0.5:
            del tensor.external_data[1:]
    elif kind == "dtype":
        tensor.data_type = random.choice((0, 2, 7, 8, 9, 10, 14, 16, 17, 21, 22, 23, 25, 99))
        if random.random() < 0.5:
            del tensor.external_data[1:]
    elif kind == "raw":
        tensor.raw_data = bytes(64)
    elif kind == "twice":
        tensor.external_data.add(
            key="location", value=random.choice(("../outside/secret.bin", "weights.bin"))
        )
    else:
        choose(random, tensor.external_data).key = random.choice(("checksum", "", "LOCATION", "basepath"))
    return model


@mutation(samples=_EXTERNAL)
def external_elsewhere(random: Random, model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """External data where only tensors inside the file are expected: a Constant, a sparse tensor."""
    escape = TensorProto(name="k", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    escape.external_data.add(key="location", value=random.choice(("../outside/secret.bin", "weights.bin")))
    kind = random.choice(("constant", "sparse", "function", "subgraph", "training", "metadata"))
    constant = onnx.helper.make_node("Constant", [], ["k"], value=escape)
    if kind == "constant":
        model.graph.node.insert(0, constant)
        model.graph.node[-1].input[-1] = "k"
    elif kind == "sparse":
        sparse = onnx.SparseTensorProto(values=escape, dims=[4])
        sparse.indices.CopyFrom(onnx.numpy_helper.from_array(np.arange(4), "i"))
        model.graph.sparse_initializer.append(sparse)
    elif kind == "function":
        function = onnx.helper.make_function(
            "local", "shifted", ["v"], ["r"],
            [constant, onnx.helper.make_node("Add", ["v", "k"], ["r"])], [onnx.helper.make_opsetid("", 17)],
        )  # fmt: skip
        model.functions.append(function)
        model.graph.node.insert(0, onnx.helper.make_node("shifted", ["x"], ["moved"], domain="local"))
        model.graph.node[1].input[0] = "moved"
    elif kind == "subgraph":
        body = onnx.helper.make_graph([constant], "b", [], [onnx.helper.make_tensor_value_info("k", 1, [4])])
        model.graph.initializer.append(onnx.helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
        branch = onnx.helper.make_node("If", ["yes"], ["chosen"], then_branch=body, else_branch=body)
        model.graph.node.insert(0, branch)
        model.graph.node[-1].input[-1] = "chosen"
    elif kind == "training":
        model.training_info.add().algorithm.initializer.append(escape)
    else:
        model.graph.quantization_annotation.add(tensor_name="w").quant_parameter_tensor_names.add(
            key="SCALE_TENSOR", value="../outside/secret.bin"
        )
    return model
