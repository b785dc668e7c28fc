"""All functions say that their tensors do not overlap: one that does not spoils the others of its library."""

import torch
from torch import nn
from torch.export import Dim
from tvm import tirx

from graphopt.codegen.pipeline import run_pipeline
from graphopt.codegen.relax import lower
from graphopt.codegen.targets import find_target
from graphopt.frontends.torch_module import capture_torch


def test_functions_that_compute_sizes_say_so_too() -> None:
    net = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2), nn.ReLU()).eval()
    sides = {2: Dim("height", min=8, max=1024), 3: Dim("width", min=8, max=1024)}
    program = capture_torch(net, (torch.randn(1, 4, 16, 18),), dynamic_shapes=(sides,))
    target = find_target("cpu")
    mod = run_pipeline(lower(program, target).mod, target)
    said = {
        var.name_hint: bool((function.attrs or {}).get("tirx.noalias", False))
        for var, function in mod.functions_items()
        if isinstance(function, tirx.PrimFunc)
    }
    assert "shape_func" in said
    assert all(said.values()), said
