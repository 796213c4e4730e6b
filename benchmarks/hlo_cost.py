"""What a module that XLA has compiled costs, counted from the module itself.

XLA's own cost analysis is not to be had from TensorFlow's Python. Its module is, from
`experimental_get_compiler_ir`: the stage `optimized_hlo_proto_serialized` has the sizes of all
buffers and lacks the values of constants, `optimized_hlo_serialized` has those.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

NO_WORK = frozenset(
    {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota"}
)
"""Instructions that move nothing, or next to nothing."""
SLICES = frozenset({"slice", "dynamic-slice", "gather"})
"""Those that read no more of their first operand than they give."""
UPDATES = frozenset({"dynamic-update-slice", "scatter"})
"""Those that write into their first operand where it is."""


@dataclasses.dataclass(frozen=True)
class Array:
    """One that exists while the module runs."""

    name: str
    shape: str
    bytes: int


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one run of a module."""

    instructions: int
    """All in the text, those within fusions and loops once."""
    kernels: int
    """Instructions that move something and are within no fusion, those of loops once."""
    product_flops: int
    """Of matrix products: two for each multiplication and addition, loops as often as they turn."""
    moved_bytes: int
    """What instructions outside fusions read and write, loops as often as they turn."""
    temporary_bytes: int
    """Of the memory that XLA sets aside beside arguments and results."""
    largest: tuple[Array, ...]
    """The largest arrays that are computed, arguments left out."""
    unknown: tuple[str, ...]
    """What was not counted as it should be: loops counted once, products of other libraries."""


class Module:
    """A module and what its instructions cost.

    Args:
        serialized: the bytes of an HloProto.
        with_constants: gives the bytes of the same module as an HloModuleProto with the values of
            its constants. Asked only where a loop's turns depend on one.
    """

    def __init__(self, serialized: bytes, with_constants: Callable[[], bytes]):
        from tensorflow.compiler.xla import xla_data_pb2
        from tensorflow.compiler.xla.service import hlo_pb2

        self.types = xla_data_pb2.PrimitiveType
        self.with_constants, self.parse = with_constants, hlo_pb2.HloModuleProto.FromString
        proto = hlo_pb2.HloProto()
        proto.ParseFromString(serialized)
        self.module, self.buffers = proto.hlo_module, proto.buffer_assignment
        self.computations = {each.id: each for each in self.module.computations}
        self.by_id = {
            each.id: each for part in self.module.computations for each in part.instructions
        }
        self.unknown: dict[str, None] = {}

    def cost(self, arrays: int = 10) -> Cost:
        """The cost, with so many of the largest arrays."""
        kernels, flops, moved = self._of(self.computations[self.module.entry_computation_id])
        return Cost(
            instructions=len(self.by_id),
            kernels=kernels,
            product_flops=flops,
            moved_bytes=moved,
            temporary_bytes=sum(
                each.size for each in self.buffers.buffer_allocations if is_temporary(each)
            ),
            largest=tuple(self._largest(arrays)),
            unknown=tuple(self.unknown),
        )

    def _of(self, computation) -> tuple[int, int, int]:
        """Kernels, operations of products and bytes moved of one run."""
        total = (0, 0, 0)
        for each in computation.instructions:
            total = added(total, self._of_instruction(each))
        return total

    def _of_instruction(self, each) -> tuple[int, int, int]:
        if each.opcode in NO_WORK:
            return 0, 0, 0
        called = [self.computations[number] for number in each.called_computation_ids]
        if each.opcode == "while":
            kernels, flops, moved = added(*map(self._of, called))
            turns = self.turns(each)
            return kernels, turns * flops, turns * moved
        if each.opcode == "conditional":
            return max(map(self._of, called), key=lambda cost: cost[1:])
        if each.opcode == "call":
            return added((0, 0, 0), *map(self._of, called))
        inner = sum(self._of(part)[1] for part in called) if each.opcode == "fusion" else 0
        return 1, inner + self._product_flops(each), self._moved(each)

    def turns(self, loop) -> int:
        """How often a loop turns: as XLA says, or by the number that its counter is below."""
        settings = json.loads(loop.backend_config) if loop.backend_config else {}
        known = settings.get("known_trip_count", {}).get("n")
        if known is not None:
            return int(known)
        _, condition = loop.called_computation_ids
        bounds = list(self._bounds(self.computations[condition]))
        if not bounds:
            self.unknown[f"{loop.name}: a loop of an unknown number of turns, counted once"] = None
        return max(bounds, default=1)

    def _bounds(self, condition) -> Iterator[int]:
        """The whole numbers that something is compared with in a loop's condition."""
        for each in condition.instructions:
            for number in each.called_computation_ids:
                yield from self._bounds(self.computations[number])
            if each.opcode == "compare" and each.comparison_direction == "LT":
                name = self.by_id[each.operand_ids[1]].name
                if name in self.constants:
                    yield self.constants[name]

    @functools.cached_property
    def constants(self) -> dict[str, int]:
        """The whole numbers among the constants, by their names."""
        return {
            each.name: each.literal.s32s[0]
            for part in self.parse(self.with_constants()).computations
            for each in part.instructions
            if each.opcode == "constant" and len(each.literal.s32s) == 1
        }

    def _product_flops(self, each) -> int:
        if each.opcode == "custom-call" and is_product(each.custom_call_target):
            self.unknown[f"{each.custom_call_target}: products that are not counted"] = None
        if each.opcode != "dot":
            return 0
        left = self.by_id[each.operand_ids[0]].shape.dimensions
        axes = each.dot_dimension_numbers.lhs_contracting_dimensions
        return 2 * math.prod(each.shape.dimensions) * math.prod(left[axis] for axis in axes)

    def _moved(self, each) -> int:
        """What it reads and writes."""
        operands = [self.by_id[number] for number in each.operand_ids]
        if each.opcode in SLICES:
            return 2 * self.size(each.shape)
        if each.opcode in UPDATES:
            return 2 * sum(self.size(one.shape) for one in operands[1:])
        if each.opcode != "fusion":
            return self.size(each.shape) + sum(self.size(one.shape) for one in operands)
        inner = self.computations[each.called_computation_ids[0]]
        parameters = {
            one.parameter_number: one for one in inner.instructions if one.opcode == "parameter"
        }
        read = sum(self._read(parameters[place], inner) for place in range(len(operands)))
        return read + self._written(self.by_id[inner.root_id])

    def _read(self, source, computation) -> int:
        """How much of a fusion's argument is read: of a large one often a slice alone."""
        users = [one for one in computation.instructions if source.id in one.operand_ids]
        total = 0
        for one in users:
            first = one.operand_ids[0] == source.id and source.id not in one.operand_ids[1:]
            if one.opcode == "bitcast":
                total += self._read(one, computation)
            elif first and one.opcode in SLICES:
                total += self.size(one.shape)
            elif not (first and one.opcode in UPDATES):
                return self.size(source.shape)
        return min(total, self.size(source.shape))

    def _written(self, root) -> int:
        """How much a fusion writes: into an array that is there already, a slice alone."""
        if root.opcode == "tuple":
            return sum(self._written(self.by_id[number]) for number in root.operand_ids)
        if root.opcode == "bitcast":
            return self._written(self.by_id[root.operand_ids[0]])
        if root.opcode in UPDATES:
            update = root.operand_ids[-1 if root.opcode == "scatter" else 1]
            return self.size(self.by_id[update].shape)
        return self.size(root.shape)

    def size(self, shape) -> int:
        """The bytes of an array, or of all arrays of a tuple."""
        if shape.tuple_shapes:
            return sum(map(self.size, shape.tuple_shapes))
        bits = 8 if shape.element_type == self.types.PRED else self._bits(shape.element_type)
        return math.prod(shape.dimensions) * bits // 8

    def _bits(self, element_type: int) -> int:
        """Of a number, which its type's name says: F32, BF16, S64, F8E4M3FN."""
        name = self.types.Name(element_type)
        digits = name.lstrip("BFSUC").split("E")[0]
        return int(digits) if digits.isdigit() else 0

    def _largest(self, count: int) -> Iterator[Array]:
        """The largest arrays that instructions outside fusions give, each place in memory once."""
        found: dict[int, Array] = {}
        for buffer in self.buffers.logical_buffers:
            each = self.by_id[buffer.defined_at.instruction_id]
            if each.opcode in ("parameter", "while", "conditional", "call"):
                continue
            shape = each.shape
            for place in buffer.defined_at.shape_index:
                shape = shape.tuple_shapes[place]
            found[buffer.id] = Array(each.name, self._shown(shape), buffer.size)
        yield from sorted(found.values(), key=lambda array: -array.bytes)[:count]

    def _shown(self, shape) -> str:
        """Such as f32[8,256,768]."""
        sizes = ",".join(map(str, shape.dimensions))
        return f"{self.types.Name(shape.element_type).lower()}[{sizes}]"


def module_of(function: Any, *arguments: Any) -> Module:
    """What XLA makes of a tf.function that it compiles, for these arguments."""
    stage = function.experimental_get_compiler_ir(*arguments)
    return Module(
        stage(stage="optimized_hlo_proto_serialized"),
        functools.partial(stage, stage="optimized_hlo_serialized"),
    )


def added(*costs: Iterable[int]) -> tuple[Any, ...]:
    """Figure by figure."""
    return tuple(map(sum, zip(*costs, strict=True)))


def is_temporary(allocation) -> bool:
    """Whether it is neither an argument, nor a result, nor a constant, nor a thread's own."""
    return not (
        allocation.is_entry_computation_parameter
        or allocation.maybe_live_out
        or allocation.is_constant
        or allocation.is_thread_local
    )


def is_product(target: str) -> bool:
    """Whether a call of another library multiplies matrices."""
    return any(word in target.lower() for word in ("matmul", "gemm"))
