"""Which instructions run as units, and how often in a step: loops times their trips, one branch of each condition."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from tfcore.inspect.hlo.cost import Cost, kernel_cost
from tfcore.inspect.hlo.module import Computation, HloModule, Instruction
from tfcore.inspect.hlo.opcodes import RUNS_OTHERS, is_free
from tfcore.inspect.hlo.trips import trip_count

# An instruction and its computation, after the loops and calls in which they stand.
Path = tuple[tuple[Instruction, Computation], ...]


@dataclasses.dataclass(frozen=True)
class Branch:
    """A branch of a condition, from 1. `counted`: why it counts: "dearest", "ran"; "" where it does not."""

    condition: str
    number: int
    of: int
    counted: str

    def __str__(self) -> str:
        why = {"dearest": "the dearest, counted", "ran": "ran", "": "not counted"}[self.counted]
        return f"branch {self.number} of {self.of} of {self.condition}, {why}"


@dataclasses.dataclass(frozen=True)
class Run:
    """A unit with the way to it; `runs` in a step, None in a loop of unknown length."""

    path: Path
    runs: int | None
    branch: Branch | None = None

    def joined(self, other: "Run") -> "Run":
        """Return the run of a unit that two call."""
        runs = None if self.runs is None or other.runs is None else self.runs + other.runs
        return Run(self.path, runs, self.branch)


def find_runs(module: HloModule, seen: Mapping[str, int]) -> Iterator[Run]:
    """Yield everything that runs as a unit, loops and calls opened, with its runs in a step.

    Where XLA does not know a loop's length or a condition's branch, `seen` does: the runs that a profiler recorded.
    Else of a condition the branch counts that has the most arithmetic and bytes.
    """
    yield from _runs(module, module.entry, 1, (), None, seen)


def unit_names(keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return a name for each unit, given as (computation, instruction): the instruction's, which XLA makes unique.

    Where people wrote two of one name, the computation's stands behind.
    """
    keys = list(keys)
    times = Counter(name for _, name in keys)
    return {(home, name): name if times[name] == 1 else f"{name} in {home}" for home, name in keys}


def _runs(
    module: HloModule, computation: Computation, runs: int | None, outer: Path, branch: Branch | None, seen: Mapping
) -> Iterator[Run]:
    for item in computation.instructions.values():
        path = (*outer, (item, computation))
        if item.opcode == "conditional":
            yield from _branches(module, item, runs, path, seen)
        elif item.opcode in RUNS_OTHERS:
            times = trip_count(item, computation, module) if item.opcode == "while" else 1
            inside = None if runs is None or times is None else runs * times
            if runs == 0:
                inside = 0
            for name in item.calls:
                part = module.computations[name]
                # XLA may run what is small without telling the profiler: then it ran as often as what stands beside it.
                beside = max((seen[name] for name in part.instructions if name in seen), default=None)
                yield from _runs(module, part, beside if inside is None else inside, path, branch, seen)
        elif not is_free(item.opcode):
            yield Run(path, runs, branch)


def _branches(module: HloModule, item: Instruction, runs: int | None, path: Path, seen: Mapping) -> Iterator[Run]:
    # A predicate of True takes the first one. As if it ran once, so that branches can be compared.
    branches = [list(_runs(module, module.computations[name], 1, path, None, seen)) for name in item.calls]
    ran = [max((seen.get(run.path[-1][0].name, 0) for run in branch), default=0) for branch in branches]
    weights = [sum((_weight(run, module) for run in branch), 0) for branch in branches]
    dearest = weights.index(max(weights)) if weights else 0
    for place, branch in enumerate(branches):
        known = any(ran)
        counted = "ran" if known and ran[place] else "dearest" if not known and place == dearest else ""
        here = Branch(item.name, place + 1, len(branches), counted)
        for run in branch:
            times = 0 if not counted else ran[place] if known else runs
            inner = None if run.runs is None or times is None else run.runs * times
            yield Run(run.path, 0 if times == 0 else inner, run.branch or here)


def _weight(run: Run, module: HloModule) -> int:
    cost: Cost = kernel_cost(*run.path[-1], module).times(1 if run.runs is None else run.runs)
    return cost.flops + cost.transcendentals + cost.integer_ops + cost.bytes
