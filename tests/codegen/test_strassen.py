"""Products by Strassen's algorithm: matrices, where they pay, kernels on every CPU, and the ways out."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import graphopt
from graphopt.codegen import compile, find_target
from graphopt.codegen.relax import strassen
from graphopt.codegen.schedules.cpu import strassen_plan
from graphopt.codegen.schedules.cpu.strassen_plan import Rows, added_bytes, plan_strassen, plans
from graphopt.codegen.schedules.cpu.tiling import Registers
from graphopt.codegen.strassen import LEFT, PRODUCTS, RESULT, RIGHT
from graphopt.frontends.torch_module import capture_torch
from graphopt.verification import verify

AVX2, AVX512 = Registers(8, 12, 8), Registers(16, 24, 16)
HALVED, NEON = Registers(16, 24, 8), Registers(4, 24, 4)


class Layer(nn.Module):
    """A linear layer with what may join its kernel."""

    def __init__(self, depth: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(depth, outputs, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x)
        return F.gelu(y + x) if y.shape == x.shape else F.gelu(y)


class Pixels(nn.Module):
    """A 1x1 convolution."""

    def __init__(self, channels: int, outputs: int, **options: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, outputs, 1, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.conv(x))


def program(module: nn.Module, *shape: int, axes: dict[int, str] | None = None) -> graphopt.Program:
    torch.manual_seed(0)
    return capture_torch(module.eval(), (torch.randn(*shape),), dynamic_shapes=(axes,) if axes else None)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """The algorithm wherever it can be used."""
    monkeypatch.setattr(strassen_plan, "_WORTH", float("inf"))


# -- matrices and costs ----------------------------------------------------------------------------


def test_the_matrices_are_those_of_a_product() -> None:
    for i in range(4):
        for j in range(4):
            for q in range(4):
                # The coefficient of A_i B_j in C_q: parts are (row, column).
                found = sum(RESULT[q][p] * LEFT[p][i] * RIGHT[p][j] for p in range(PRODUCTS))
                assert found == (i % 2 == j // 2 and q == i // 2 * 2 + j % 2)


@pytest.mark.parametrize("registers", [AVX2, AVX512, HALVED, NEON])
@pytest.mark.parametrize("cores", [1, 2, 4])
def test_it_pays_for_large_products(registers: Registers, cores: int) -> None:
    plan = plan_strassen(Rows(1, 1024, 1), 1024, 1024, registers, cores)
    assert plan is not None
    assert plan.group % plan.tile.rows == 0
    assert 2 * plan.group * plan.blocks >= 1024


@pytest.mark.parametrize(
    ("rows", "depth", "outputs"),
    [
        (Rows(1, 1, 1), 768, 768),  # half of the block would be rows that nobody needs
        (Rows(1, 7, 7), 768, 3072),  # the weights' transfer outweighs what 49 rows save
        (Rows(1, 512, 1), 32, 512),  # the sums outweigh the products
        (Rows(1, 512, 1), 511, 512),  # an odd number of products
        (Rows(1, 1024, 1), 8192, 8192),  # 192 MiB more of weights
    ],
)
def test_it_does_not_pay(rows: Rows, depth: int, outputs: int) -> None:
    assert plan_strassen(rows, depth, outputs, HALVED, 2) is None


def test_every_plan_covers_the_rows() -> None:
    for rows in (Rows(1, 197, 1), Rows(2, 64, 49), Rows(1, 1, 1), Rows(3, 13, 7)):
        for plan in plans(rows, 384, 384, HALVED, 2):
            assert 2 * plan.group * plan.blocks >= rows.lines > 2 * plan.group * (plan.blocks - 1)
            assert plan.group * rows.width % plan.tile.rows == 0


# -- kernels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "module", "shape"),
    [
        ("cpu", Layer(64, 64), (33, 64)),  # rows over the end, a residual
        ("cpu", Layer(64, 150, bias=False), (1, 48, 64)),  # columns over the end
        ("cpu", Layer(96, 40), (3, 5, 9, 96)),  # lines of rows, one line over the end
        ("cpu", Pixels(64, 80), (2, 64, 14, 14)),
        ("x86-64-v3", Layer(96, 40), (3, 5, 9, 96)),
        ("c", Layer(64, 20, bias=False), (1, 24, 64)),
    ],
)
@pytest.mark.usefixtures("always")
def test_kernels(target: str, module: nn.Module, shape: tuple[int, ...]) -> None:
    if find_target(target).why_not_here() is not None:
        pytest.skip("runs on other machines")
    original = program(module, *shape)
    artifact = compile(original, target, cache=False)
    assert len(artifact.strassen()) == 1
    assert verify(original, artifact).ok


@pytest.mark.parametrize("blocks", [1, 3])
def test_every_form(blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows as one block, whose pairs of panels run in parallel, and as several."""

    def chosen(*arguments: object) -> object:
        return next(p for p in plans(*arguments) if p.blocks == blocks)  # type: ignore[arg-type]

    monkeypatch.setattr(strassen, "plan_strassen", chosen)
    original = program(Layer(64, 200), 150, 64)
    artifact = compile(original, "cpu", cache=False)
    assert len(artifact.strassen()) == 1
    assert verify(original, artifact).ok


@pytest.mark.usefixtures("always")
def test_a_symbolic_batch() -> None:
    original = program(Pixels(32, 32), 3, 32, 14, 14, axes={0: "batch"})
    artifact = compile(original, "cpu", cache=False)
    assert len(artifact.strassen()) == 1
    assert verify(original, artifact).ok


@pytest.mark.usefixtures("always")
def test_code_for_arm() -> None:
    assert len(compile(program(Layer(512, 512), 192, 512), "aarch64", cache=False).strassen()) == 1


@pytest.mark.usefixtures("always")
def test_wrong_weights_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strassen, "RIGHT", (*RIGHT[:-1], (0, 0, 1, -1)))
    original = program(Layer(512, 512), 192, 512)
    assert not verify(original, compile(original, "cpu", cache=False)).ok


@pytest.mark.usefixtures("always")
def test_the_weights_grow_by_what_is_estimated() -> None:
    original = program(Layer(512, 768, bias=False), 192, 512)
    artifacts = [compile(original, "cpu", cache=False, fast_algorithms=fast) for fast in (False, True)]
    sizes = [artifact.path.stat().st_size for artifact in artifacts]
    assert abs(sizes[1] - sizes[0] - added_bytes(512, 768)) < 1 << 16


# -- the ways out ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("always")
def test_an_option_switches_it_off() -> None:
    original = program(Layer(512, 512), 192, 512)
    assert compile(original, "cpu").strassen()
    assert compile(original, "cpu", fast_algorithms=False).strassen() == []  # nor from the cache


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    ("module", "shape", "axes"),
    [
        (Layer(64, 64), (48, 64), {0: "rows"}),
        (Layer(64, 64).half(), (48, 64), None),
        (Pixels(64, 64, stride=2), (1, 64, 14, 14), None),
        (Pixels(64, 64, padding=1), (1, 64, 14, 14), None),
        (Pixels(64, 64, groups=2), (1, 64, 14, 14), None),
    ],
    ids=["symbolic rows", "half", "stride", "padding", "groups"],
)
def test_others_are_plain(module: nn.Module, shape: tuple[int, ...], axes: dict[int, str] | None) -> None:
    torch.manual_seed(0)
    x = torch.randn(*shape, dtype=next(module.parameters()).dtype)
    original = capture_torch(module.eval(), (x,), dynamic_shapes=(axes,) if axes else None)
    assert compile(original, "cpu", cache=False).strassen() == []


@pytest.mark.usefixtures("always")
def test_weights_that_are_not_finite_are_plain() -> None:
    layer = Layer(512, 512)
    with torch.no_grad():
        layer.linear.weight[3, 5] = torch.inf
    assert compile(program(layer, 192, 512), "cpu", cache=False).strassen() == []


@pytest.mark.usefixtures("always")
def test_what_is_not_finite_reaches_two_rows() -> None:
    original = program(nn.Linear(512, 512), 192, 512)
    artifact = compile(original, "cpu")
    assert artifact.strassen()
    x = torch.randn(192, 512)
    (plain,) = artifact(x)
    x[5, 17] = torch.inf
    (spoilt,) = artifact(x)
    assert not spoilt[5].isfinite().any()
    other = [row for row in range(192) if not torch.equal(spoilt[row], plain[row])]
    assert len(other) == 2
