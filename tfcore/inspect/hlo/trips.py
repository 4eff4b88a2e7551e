"""How often a while loop runs: as XLA says, or as its condition does, that a counter is below a constant."""

from tfcore.inspect.hlo.module import Computation, HloModule, Instruction

_NAMES = ("copy", "bitcast", "reshape", "convert")
# An instruction, in its computation, and how the computation's parameters came to be: {number: (instruction, ...)}.
_At = tuple[Instruction, Computation, dict]


def trip_count(loop: Instruction, computation: Computation, module: HloModule) -> int | None:
    """Return how often a while loop of `computation` runs; None where that is not known before it runs.

    known_trip_count, or a condition "counter < constant" (≤) over a counter that begins at a constant and grows by one.
    """
    known = loop.config.get("known_trip_count")
    if isinstance(known, dict) and "n" in known:
        return int(known["n"])
    condition = module.computations[loop.attributes["condition"].lstrip("%")]
    body = module.computations[loop.attributes["body"].lstrip("%")]
    compare = _behind((condition.instructions[condition.root], condition, {}), module)
    if compare is None or compare[0].opcode != "compare":
        return None
    direction = compare[0].attributes.get("direction", "")
    left, right = (_operand(compare, place, module) for place in (0, 1))
    if direction in ("GT", "GE"):
        left, right, direction = right, left, {"GT": "LT", "GE": "LE"}[direction]
    part, limit = _part(left, module), _number(right)
    if part is None or limit is None or direction not in ("LT", "LE"):
        return None
    start = _number(_element((computation.instructions[loop.operands[0]], computation, {}), part, module))
    step = _step(_element((body.instructions[body.root], body, {}), part, module), part, module)
    if start is None or not step:
        return None
    return max(-(-(limit + (direction == "LE") - start) // step), 0)


def _behind(at: _At | None, module: HloModule) -> _At | None:
    """What a value is, behind copies and fusions."""
    while at is not None:
        item, computation, given = at
        if item.opcode in _NAMES:
            at = computation.instructions[item.operands[0]], computation, given
        elif item.opcode in ("fusion", "call"):
            inside = module.computations[item.calls[0]]
            outer = {
                number: (computation.instructions[name], computation, given)
                for number, name in enumerate(item.operands)
            }
            at = inside.instructions[inside.root], inside, outer
        elif item.opcode == "parameter" and int(item.payload) in given:
            at = given[int(item.payload)]
        else:
            return at
    return None


def _operand(at: _At, place: int, module: HloModule) -> _At | None:
    item, computation, given = at
    return _behind((computation.instructions[item.operands[place]], computation, given), module)


def _element(at: _At, part: int, module: HloModule) -> _At | None:
    """An element of a tuple."""
    item, computation, given = at
    if item.opcode == "tuple":
        return _behind((computation.instructions[item.operands[part]], computation, given), module)
    return None


def _part(at: _At | None, module: HloModule) -> int | None:
    """Which part of the loop's state a value is."""
    if at is None or at[0].opcode != "get-tuple-element":
        return None
    source = _operand(at, 0, module)
    return int(at[0].attributes["index"]) if source is not None and source[0].opcode == "parameter" else None


def _step(at: _At | None, part: int, module: HloModule) -> int | None:
    """By how much a part of the state grows."""
    if at is None or at[0].opcode != "add":
        return None
    sides = [_operand(at, place, module) for place in (0, 1)]
    parts, numbers = [_part(side, module) for side in sides], [_number(side) for side in sides]
    for own, other in ((0, 1), (1, 0)):
        number = numbers[other]
        if parts[own] == part and number is not None and number > 0:
            return number
    return None


def _number(at: _At | None) -> int | None:
    if at is None or at[0].opcode != "constant":
        return None
    try:
        return int(at[0].payload)
    except ValueError:
        return None
