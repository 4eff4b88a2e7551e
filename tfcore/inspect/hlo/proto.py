"""XLA's own messages (hlo.proto), as profiles and dumps hold them, as a `HloModule`, attributes as texts print them."""

from tensorflow.compiler.xla import xla_data_pb2
from tensorflow.compiler.xla.service import hlo_pb2

from tfcore.inspect.hlo.module import Computation, Frame, HloModule, Instruction, Metadata
from tfcore.inspect.hlo.shapes import Shape

_CALLED = {
    "fusion": "calls",
    "async-start": "calls",
    "conditional": "branch_computations",
    "custom-call": "called_computations",
}
_TUPLE = xla_data_pb2.TUPLE


def read_proto(data: bytes) -> hlo_pb2.HloProto:
    """Return the HloProto in a file: one, or a bare HloModuleProto.

    Raises:
        ValueError: for bytes that are neither.
    """
    for kind in (hlo_pb2.HloProto, hlo_pb2.HloModuleProto):
        try:
            found = kind.FromString(data)
        except Exception:  # of protobuf, which has several
            continue
        proto = found if kind is hlo_pb2.HloProto else hlo_pb2.HloProto(hlo_module=found)
        if proto.hlo_module.computations and proto.hlo_module.name:
            return proto
    raise ValueError("no HLO lies in these bytes: neither an HloProto nor an HloModuleProto")


def from_proto(proto: hlo_pb2.HloModuleProto) -> HloModule:
    """Return a module as `parser.parse` returns it of a text."""
    names = {part.id: part.name for part in proto.computations}
    frames = _Frames(proto.stack_frame_index) if proto.HasField("stack_frame_index") else None
    order = {key: list(sequence.instruction_ids) for key, sequence in proto.schedule.sequences.items()}
    computations = {}
    for part in proto.computations:
        by_id = {item.id: item for item in part.instructions}
        ids = order.get(part.id) or list(by_id)
        called = {number: by_id[number].name for number in by_id}
        items = {by_id[number].name: _instruction(by_id[number], called, names, frames) for number in ids}
        root = called[part.root_id] if part.root_id in called else next(reversed(items))
        computations[part.name] = Computation(part.name, items, root, part.id == proto.entry_computation_id)
    return HloModule(proto.name, _header(proto), computations)


def _header(proto: hlo_pb2.HloModuleProto) -> str:
    scheduled = ", is_scheduled=true" if proto.HasField("schedule") else ""
    pairs = [
        f"{{{_list(entry.output_shape_index)}}}: ({entry.parameter_number}, {{{_list(entry.parameter_shape_index)}}})"
        for entry in proto.input_output_alias.entries
    ]
    alias = f", input_output_alias={{ {', '.join(pairs)} }}" if pairs else ""
    assigned = proto.device_assignment
    devices = f", num_partitions={max(assigned.computation_count, 1)}, replica_count={max(assigned.replica_count, 1)}"
    return f"HloModule {proto.name}{scheduled}{alias}{devices}"


def _instruction(item, called: dict, names: dict, frames: "_Frames | None") -> Instruction:
    attributes: dict[str, str] = {}
    if item.called_computation_ids:
        attributes |= _calls(item.opcode, [names[number] for number in item.called_computation_ids])
    if item.dimensions:
        attributes["dimensions"] = f"{{{_list(item.dimensions)}}}"
    if item.HasField("window"):
        attributes["window"] = _window(item.window)
    if item.HasField("convolution_dimension_numbers"):
        attributes["dim_labels"] = _labels(item.convolution_dimension_numbers)
    if item.HasField("dot_dimension_numbers"):
        numbers = item.dot_dimension_numbers
        attributes["lhs_contracting_dims"] = f"{{{_list(numbers.lhs_contracting_dimensions)}}}"
        attributes["rhs_contracting_dims"] = f"{{{_list(numbers.rhs_contracting_dimensions)}}}"
    if item.opcode == "get-tuple-element":
        attributes["index"] = str(item.tuple_index)
    if item.fft_length:
        attributes["fft_length"] = f"{{{_list(item.fft_length)}}}"
    if item.custom_call_target:
        attributes["custom_call_target"] = f'"{item.custom_call_target}"'
    if item.backend_config:
        attributes["backend_config"] = item.backend_config.decode(errors="replace")
    if item.comparison_direction:
        attributes["direction"] = item.comparison_direction
    if item.replica_groups:
        groups = ",".join(f"{{{_list(group.replica_ids)}}}" for group in item.replica_groups)
        attributes["replica_groups"] = f"{{{groups}}}"
    if item.fusion_kind:
        attributes["kind"] = item.fusion_kind
    payload = str(item.parameter_number) if item.opcode == "parameter" else ""
    if item.opcode == "constant" and not item.shape.dimensions:
        payload = _scalar(item.literal)
    operands = tuple(called[number] for number in item.operand_ids)
    metadata = _metadata(item.metadata, frames)
    return Instruction(item.name, item.opcode, _shape(item.shape), operands, attributes, metadata, payload)


def _calls(opcode: str, names: list[str]) -> dict[str, str]:
    if opcode == "while":
        return {"condition": f"%{names[1]}", "body": f"%{names[0]}"}
    key = _CALLED.get(opcode, "to_apply")
    if opcode == "select-and-scatter":
        return {"select": f"%{names[0]}", "scatter": f"%{names[1]}"}
    return {key: ", ".join(f"%{name}" for name in names)}


def _shape(shape: xla_data_pb2.ShapeProto) -> Shape:
    if shape.element_type == _TUPLE:
        return Shape("tuple", parts=tuple(_shape(part) for part in shape.tuple_shapes))
    dtype = xla_data_pb2.PrimitiveType.Name(shape.element_type).lower().replace("opaque_type", "opaque")
    order = _list(shape.layout.minor_to_major)
    extra = f"S({shape.layout.memory_space})" * bool(shape.layout.memory_space)
    extra += f"E({shape.layout.element_size_in_bits})" * bool(shape.layout.element_size_in_bits)
    layout = f"{{{order}{':' * bool(extra)}{extra}}}" if order or extra else ""
    return Shape(dtype, tuple(shape.dimensions), layout)


def _metadata(metadata, frames: "_Frames | None") -> Metadata:
    stack = frames.chain(metadata.stack_frame_id) if frames is not None else ()
    if not stack and metadata.source_file and metadata.source_line:
        stack = (Frame(metadata.source_file, metadata.source_line),)
    return Metadata(metadata.op_type, metadata.op_name, stack)


class _Frames:
    """Stack frames by number, from 1; here the caller's number is its own, 0 for none."""

    def __init__(self, index):
        self._index, self._chains = index, {}

    def chain(self, number: int) -> tuple[Frame, ...]:
        if number not in self._chains:
            frames, at, seen = [], number, set()
            while 0 < at <= len(self._index.stack_frames) and at not in seen:
                seen.add(at)
                frame = self._index.stack_frames[at - 1]
                if 0 < frame.file_location_id <= len(self._index.file_locations):
                    place = self._index.file_locations[frame.file_location_id - 1]
                    file = self._index.file_names[place.file_name_id - 1]
                    frames.append(Frame(file, place.line, self._index.function_names[place.function_name_id - 1]))
                at = frame.parent_frame_id
            self._chains[number] = tuple(frames)
        return self._chains[number]


def _window(window) -> str:
    parts = window.dimensions
    pads = (f"{part.padding_low}_{part.padding_high}" for part in parts)
    fields = {
        "size": [part.size for part in parts],
        "stride": [part.stride for part in parts],
        "pad": list(pads),
        "lhs_dilate": [part.base_dilation for part in parts],
        "rhs_dilate": [part.window_dilation for part in parts],
    }
    return f"{{{' '.join(f'{key}={chr(120).join(map(str, values))}' for key, values in fields.items() if values)}}}"


def _labels(numbers) -> str:
    """b01f_01io->b01f: which dimension of image, kernel and output is what."""

    def order(first: int, letters: str, second: int, spatial) -> str:
        places = {first: letters[0], second: letters[1], **{axis: str(i) for i, axis in enumerate(spatial)}}
        return "".join(places[axis] for axis in sorted(places))

    image = order(
        numbers.input_batch_dimension, "bf", numbers.input_feature_dimension, numbers.input_spatial_dimensions
    )
    kernel = order(
        numbers.kernel_input_feature_dimension, "io", numbers.kernel_output_feature_dimension,
        numbers.kernel_spatial_dimensions,
    )  # fmt: skip
    output = order(
        numbers.output_batch_dimension, "bf", numbers.output_feature_dimension, numbers.output_spatial_dimensions
    )
    return f"{image}_{kernel}->{output}"


def _scalar(literal) -> str:
    for field in ("s32s", "s64s", "u32s", "u64s", "f32s", "f64s", "preds"):
        values = getattr(literal, field)
        if values:
            return str(values[0])
    return ""


def _list(numbers) -> str:
    return ",".join(map(str, numbers))
