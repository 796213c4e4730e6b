"""What a compiled module costs is counted as one counts it by hand."""

import json

import pytest
import tensorflow as tf
from benchmarks import hlo_cost, step_cost
from tensorflow.compiler.xla import xla_data_pb2
from tensorflow.compiler.xla.service import hlo_pb2

F32, BF16, S32 = (getattr(xla_data_pb2, name) for name in ("F32", "BF16", "S32"))


class Written:
    """A module that is written by hand, computation by computation; the last one is entered."""

    def __init__(self):
        self.proto = hlo_pb2.HloProto()
        self.count = 0

    def computation(self):
        part = self.proto.hlo_module.computations.add(id=len(self.proto.hlo_module.computations))
        self.proto.hlo_module.entry_computation_id = part.id
        return part

    def add(self, part, opcode, sizes, *operands, dtype=F32, called=(), **fields):
        """An instruction, the new root of its computation; `sizes` may be shapes of a tuple."""
        self.count += 1
        each = part.instructions.add(
            id=self.count, name=f"{opcode}.{self.count}", opcode=opcode, **fields
        )
        each.operand_ids.extend(operands)
        each.called_computation_ids.extend(one.id for one in called)
        each.shape.element_type = dtype
        each.shape.dimensions.extend(sizes)
        part.root_id = each.id
        return each.id

    def product(self, part, sizes, left, right, axis):
        number = self.add(part, "dot", sizes, left, right)
        part.instructions[-1].dot_dimension_numbers.lhs_contracting_dimensions.append(axis)
        return number

    def cost(self):
        whole, module = self.proto.SerializeToString(), self.proto.hlo_module.SerializeToString
        return hlo_cost.Module(whole, module).cost()


def test_a_product_has_two_operations_a_factor_and_moves_its_arrays():
    module = Written()
    entry = module.computation()
    a = module.add(entry, "parameter", [3, 4], parameter_number=0)
    b = module.add(entry, "parameter", [4, 5], parameter_number=1)
    module.product(entry, [3, 5], a, b, axis=1)
    cost = module.cost()
    assert (cost.instructions, cost.kernels) == (3, 1)
    assert cost.product_flops == 2 * 3 * 4 * 5
    assert cost.moved_bytes == 4 * (12 + 20 + 15)


@pytest.mark.parametrize("said", [True, False], ids=["annotated", "compared"])
def test_a_loop_counts_as_often_as_it_turns(said):
    module = Written()
    body = module.computation()
    x = module.add(body, "parameter", [2, 2], parameter_number=0)
    module.product(body, [2, 2], x, x, axis=1)
    condition = module.computation()
    number = module.add(condition, "parameter", [], dtype=S32, parameter_number=0)
    seven = module.add(condition, "constant", [], dtype=S32)
    condition.instructions[-1].literal.s32s.append(7)
    module.add(condition, "compare", [], number, seven, comparison_direction="LT")
    condition.instructions[-1].shape.element_type = xla_data_pb2.PRED
    entry = module.computation()
    start = module.add(entry, "parameter", [2, 2], parameter_number=0)
    known = json.dumps({"known_trip_count": {"n": "3"}} if said else {}).encode()
    module.add(entry, "while", [2, 2], start, called=(body, condition), backend_config=known)
    turns, cost = 3 if said else 7, module.cost()
    assert cost.product_flops == turns * 2 * 8
    # In each turn a product of 4 numbers with themselves, and two numbers compared.
    assert cost.moved_bytes == turns * (4 * 12 + 4 + 4 + 1)
    assert not cost.unknown


def test_a_loop_of_unknown_turns_is_counted_once_and_named():
    module = Written()
    body, condition = module.computation(), module.computation()
    x = module.add(body, "parameter", [2, 2], parameter_number=0)
    module.product(body, [2, 2], x, x, axis=1)
    entry = module.computation()
    start = module.add(entry, "parameter", [2, 2], parameter_number=0)
    module.add(entry, "while", [2, 2], start, called=(body, condition))
    cost = module.cost()
    assert cost.product_flops == 16
    assert cost.unknown == ("while.4: a loop of an unknown number of turns, counted once",)


def test_a_fusion_moves_what_enters_and_leaves_it_and_of_slices_no_more():
    module = Written()
    inner = module.computation()
    stack = module.add(inner, "parameter", [10, 6], dtype=BF16, parameter_number=0)
    number = module.add(inner, "parameter", [], dtype=S32, parameter_number=1)
    other = module.add(inner, "parameter", [10, 6], dtype=BF16, parameter_number=2)
    row = module.add(inner, "dynamic-slice", [1, 6], stack, number, dtype=BF16)
    twice = module.add(inner, "add", [1, 6], row, row, dtype=BF16)
    module.add(inner, "dynamic-update-slice", [10, 6], other, twice, number, dtype=BF16)
    entry = module.computation()
    places = enumerate(([10, 6], [], [10, 6]))
    given = [
        module.add(entry, "parameter", sizes, dtype=S32 if not sizes else BF16, parameter_number=at)
        for at, sizes in places
    ]
    module.add(entry, "fusion", [10, 6], *given, dtype=BF16, called=(inner,))
    cost = module.cost()
    assert (cost.instructions, cost.kernels) == (10, 1)
    assert cost.moved_bytes == 2 * 6 + 4 + 2 * 6  # a row is read, the number, a row is written


def test_other_libraries_products_are_named():
    module = Written()
    entry = module.computation()
    a = module.add(entry, "parameter", [2, 2], parameter_number=0)
    module.add(entry, "custom-call", [2, 2], a, a, custom_call_target="__cublas$gemm")
    assert module.cost().unknown == ("__cublas$gemm: products that are not counted",)


def test_a_module_of_xla_s_own_is_read():
    @tf.function(jit_compile=True, autograph=False)
    def function(a, b):
        def turn(number, x):
            return number + 1, tf.tanh(tf.matmul(x, b))

        loop = tf.while_loop(
            lambda number, x: number < 5, turn, (0, tf.matmul(a, b)), maximum_iterations=5
        )
        return loop[1]

    cost = hlo_cost.module_of(function, tf.ones([64, 96]), tf.ones([96, 96])).cost(arrays=3)
    assert cost.product_flops == 6 * 2 * 64 * 96 * 96
    assert not cost.unknown
    least = 6 * 4 * (2 * 64 * 96 + 96 * 96) + 5 * 4 * 2 * 64 * 96  # products, and tanh
    assert least <= cost.moved_bytes <= least + 4 * 10**5  # copies come and go with XLA
    assert {(array.shape, array.bytes) for array in cost.largest} == {("f32[64,96]", 4 * 64 * 96)}
    assert cost.temporary_bytes >= 4 * 64 * 96


@pytest.mark.slow
def test_a_loop_of_blocks_has_the_products_of_blocks_one_after_the_other(tmp_path, capsys):
    output = tmp_path / "cost.json"
    flags = ["--size", "tiny", "--rows", "2", "--length", "16", "--precision", "float32"]
    programs = ["step", "step/loop", "decoding"]
    assert step_cost.main([*flags, "--output", str(output), "--programs", *programs]) == 0
    costs = json.loads(output.read_text())["programs"]
    assert list(costs) == programs
    step, loop, decoding = costs.values()
    assert step["unknown"] == loop["unknown"] == []
    # How many turns decoding takes is data.
    assert any("unknown number of turns" in each for each in decoding["unknown"])
    assert loop["instructions"] < step["instructions"]
    # The gradient of the first block's input, which no LoRA needs, is computed in a loop.
    assert 1 <= loop["product_flops"] / step["product_flops"] < 1.2
    assert decoding["product_flops"] < step["product_flops"] / 16
    assert "GFLOP of products" in capsys.readouterr().out
