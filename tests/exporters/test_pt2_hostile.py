"""No .pt2 file, and no pickled checkpoint, makes the loader execute what it brings."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from graphopt.errors import InputError
from graphopt.exporters.pt2 import load_pt2, save_pt2
from graphopt.ir.program import Program
from tests.exporters.archives import add_member, read_members, rewrite_member, rewrite_model, write_members

pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec:FutureWarning")


class _Bomb:
    """Unpickles by creating a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.target),)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """What exists if and only if an attack worked."""
    return tmp_path / "executed"


@pytest.fixture
def file(tied: Program, tmp_path: Path) -> Path:
    path = tmp_path / "model.pt2"
    save_pt2(tied, path)
    return path


def _bomb(target: Path) -> bytes:
    path = target.with_suffix(".pickle")
    torch.save({"w": _Bomb(target)}, path)
    return path.read_bytes()


def _refused(path: Path, target: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        load_pt2(path)
    assert not target.exists(), "the loader executed the file's code"
    return caught.value


def test_the_bomb_works(file: Path, target: Path) -> None:
    """torch's own loader does execute it; otherwise the tests below would show nothing."""
    rewrite_member(file, "data/sample_inputs/model.pt", lambda _: _bomb(target))
    with contextlib.suppress(Exception):  # what it returns is not what torch expects
        torch.export.load(str(file))
    assert target.exists()


@pytest.mark.parametrize("name", ["weights.pt", "weights.pth", "weights.bin", "weights.pt2", "checkpoint"])
def test_checkpoints_of_torch_save(name: str, target: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(_bomb(target))
    error = _refused(path, target)
    assert error.code == "GO-3008"
    assert (
        error.hint is not None
        and "pickled checkpoint; convert the weights to safetensors, or export" in error.hint
    )


def test_legacy_checkpoints_and_plain_pickles(target: Path, tmp_path: Path) -> None:
    torch.save({"w": _Bomb(target)}, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(_Bomb(target)))
    for name in ("legacy.pt", "plain.pkl"):
        assert _refused(tmp_path / name, target).code == "GO-3008"


def test_sample_inputs_are_never_opened(file: Path, target: Path, tied: Program) -> None:
    rewrite_member(file, "data/sample_inputs/model.pt", lambda _: _bomb(target))
    assert load_pt2(file).structural_hash() == tied.structural_hash()
    assert not target.exists()


@pytest.mark.parametrize("member", ["data/weights/model.pt", "data/constants/model.pt"])
def test_legacy_members(member: str, file: Path, target: Path) -> None:
    add_member(file, member, _bomb(target))
    assert _refused(file, target).code == "GO-3008"


@pytest.mark.parametrize("stored", ["weight_0", "custom_obj_0", "opaque_obj_0"])
@pytest.mark.parametrize("kind", ["weights", "constants"])
def test_pickled_payloads(kind: str, stored: str, file: Path, target: Path) -> None:
    def pickled(text: bytes) -> bytes:
        config = json.loads(text)
        payload = {"path_name": stored, "is_param": False, "use_pickle": True, "tensor_meta": None}
        config["config"]["evil"] = payload
        return json.dumps(config).encode()

    rewrite_member(file, f"data/{kind}/model_{kind}_config.json", pickled)
    members = read_members(file)
    root = next(iter(members)).split("/", 1)[0]
    members[f"{root}/data/{kind}/{stored}"] = (
        _bomb(target) if stored != "opaque_obj_0" else pickle.dumps(_Bomb(target))
    )
    write_members(file, members)
    assert _refused(file, target).code == "GO-3008"


def test_native_code(file: Path, target: Path) -> None:
    add_member(file, "data/aotinductor/model/evil.wrapper.so", b"\x7fELF")
    assert _refused(file, target).code == "GO-3002"


def test_symbolic_sizes_are_not_evaluated(file: Path, target: Path) -> None:
    for attack in (
        f"open({str(target)!r}, 'w')",
        f"Symbol('s1').__class__.__init__.__globals__['open']({str(target)!r}, 'w')",
        "Pow(Integer(9), Pow(Integer(9), Integer(9)))",
        "Symbol('s77', positive=__import__('os'))",
        "(lambda: 1)()",
    ):

        def plant(model: dict[str, Any], attack: str = attack) -> None:
            values = model["graph_module"]["graph"]["tensor_values"]
            size = next(s for v in values.values() for s in v["sizes"] if "as_expr" in s)
            size["as_expr"]["expr_str"] = attack

        before = file.read_bytes()
        rewrite_model(file, plant)
        assert _refused(file, target).code == "GO-3002"
        file.write_bytes(before)


def test_guards_are_not_compiled(file: Path, target: Path) -> None:
    rewrite_model(file, lambda model: model.update(guards_code=[f"open({str(target)!r}, 'w') is None"]))
    load_pt2(file)
    assert not target.exists()


@pytest.mark.parametrize(
    "call",
    [
        "torch.load",
        "torch.hub.load",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "torch._C._pickle_load_obj",
        "torch.ops.higher_order.triton_kernel_wrapper_functional",
        "torch.ops.profiler._record_function_enter.default",
        "builtins.open",
        "builtins.exec",
        "_operator.methodcaller",
        "math.__loader__.load_module",
        "#extension:op",
    ],
)
def test_only_operators_can_be_called(call: str, file: Path, target: Path) -> None:
    def plant(model: dict[str, Any]) -> None:
        model["graph_module"]["graph"]["nodes"][0]["target"] = call

    rewrite_model(file, plant)
    error = _refused(file, target)
    assert error.code == "GO-3005" and call in error.message


def test_container_types_are_not_imported(
    file: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_module.py").write_text(f"open({str(target)!r}, 'w')\nfactory = list")
    monkeypatch.syspath_prepend(str(tmp_path))
    context = {"default_factory_module": "evil_module", "default_factory_name": "factory", "dict_context": []}
    evil = {"type": "collections.defaultdict", "context": context, "children_spec": []}

    def plant(model: dict[str, Any]) -> None:
        model["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = json.dumps([1, evil])

    rewrite_model(file, plant)
    load_pt2(file)
    assert not target.exists()


@pytest.mark.parametrize("cut", [0.0, 0.2, 0.6, 0.99])
def test_truncated_files(cut: float, file: Path, target: Path) -> None:
    file.write_bytes(file.read_bytes()[: int(cut * file.stat().st_size)])
    assert _refused(file, target).code in ("GO-3002", "GO-3003")


def test_a_flipped_bit_in_a_weight(file: Path, target: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        info = next(i for i in archive.infolist() if "data/weights/weight_0" in i.filename)
    data = bytearray(file.read_bytes())
    data[info.header_offset + 200] ^= 1
    file.write_bytes(bytes(data))
    error = _refused(file, target)
    assert error.code == "GO-3003" and "weight_0" in error.message


def test_weights_that_reach_past_their_bytes(file: Path, target: Path) -> None:
    def longer(text: bytes) -> bytes:
        config = json.loads(text)
        meta = next(iter(config["config"].values()))["tensor_meta"]
        meta["sizes"][0]["as_int"] = 1 << 40
        return json.dumps(config).encode()

    rewrite_member(file, "model_weights_config.json", longer)
    assert _refused(file, target).code == "GO-3003"


def test_compressed_members_are_refused(file: Path, target: Path) -> None:
    write_members(file, read_members(file), zipfile.ZIP_DEFLATED)
    assert _refused(file, target).code == "GO-3003"


def test_other_files(tmp_path: Path, target: Path) -> None:
    (tmp_path / "text.pt2").write_text("hello")
    (tmp_path / "empty.pt2").write_bytes(b"")
    write_members(tmp_path / "zip.pt2", {"a/b": b"", "c": b""})
    write_members(tmp_path / "old.pt2", {"version": b"8.0", "serialized_exported_program.json": b"{}"})
    codes = {
        name: _refused(tmp_path / f"{name}.pt2", target).code for name in ("text", "empty", "zip", "old")
    }
    assert codes == {"text": "GO-3002", "empty": "GO-3002", "zip": "GO-3002", "old": "GO-3008"}
    assert _refused(tmp_path / "missing.pt2", target).code == "GO-3001"
