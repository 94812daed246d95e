"""What a compiled step sends between devices, read from its optimized HLO.

XLA's own cost analysis counts a loop's body once and does not speak of collectives: here every computation is counted
as often as it runs, so that a model scanned over its layers shows what the unrolled one would. Of the branches of a
conditional, the one that sends most is counted.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

# How much of the whole array each of n devices sends on a ring (arXiv 1909.08053 counts the same way).
SENT: dict[str, Callable[[int], float]] = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-gather": lambda n: (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1.0,
}
_NAME = r"%?([\w.\-]+)"
_COMPUTATION = re.compile(rf"^(?:ENTRY )?{_NAME} \(.*\{{$")
_COLLECTIVE = re.compile(rf"^\s*(?:ROOT )?{_NAME} = (.*?) ({'|'.join(SENT)})(-start)?\(")
_CALLED = re.compile(rf"\b(?:calls|to_apply|body)={_NAME}")
_BRANCHES = re.compile(rf"\b(?:true_computation|false_computation)={_NAME}|branch_computations=\{{([^}}]*)\}}")
_WHILE = re.compile(rf" while\(.*?condition={_NAME}, body={_NAME}")
_ARRAY = re.compile(r"\b(pred|[suf]\d+|bf16|f8\w+)\[([\d,]*)\]")
_INTEGER = re.compile(rf"{_NAME} = [su]\d+\[\](?:\{{[^}}]*\}})? constant\((\d+)\)")
_ELEMENT = re.compile(r" [su]\d+\[\]\S* get-tuple-element\(.*?\), index=(\d+)")
_DEFINED = re.compile(rf"^\s*(?:ROOT )?{_NAME} = ")
_OPERAND = re.compile(r"%([\w.\-]+)")
_BITS = {"pred": 8, "bf16": 16}


class Collective(NamedTuple):
    """One collective instruction."""

    kind: str
    payload_bytes: float  # of the whole array: gathered, reduced or exchanged
    devices: int  # that take part in each group
    times: int  # it runs in one call

    @property
    def sent_bytes(self) -> float:
        """What each device sends in one call, on a ring."""
        return self.payload_bytes * SENT[self.kind](self.devices) * self.times


def collectives(hlo: str) -> list[Collective]:
    r"""The collectives of `compiled.as_text()`; those among one device are none.

    >>> all_reduce = "  %sum = f32[1024]{0} all-reduce(f32[1024]{0} %x), replica_groups=[1,8]<=[8]"
    >>> collectives("\n".join(["ENTRY %main (x: f32[1024]) -> f32[1024] {", all_reduce, "}"]))
    [Collective(kind='all-reduce', payload_bytes=4096.0, devices=8, times=1)]
    """
    computations, entry = _computations(hlo)
    return _collectives(computations, entry)


def sent_by_kind(found: Sequence[Collective]) -> dict[str, float]:
    """Bytes each device sends, per kind of collective that occurs."""
    total: dict[str, float] = {}
    for one in found:
        total[one.kind] = total.get(one.kind, 0.0) + one.sent_bytes
    return total


def _collectives(computations: Mapping[str, list[str]], entry: str) -> list[Collective]:
    found = [
        _collective(line, match, name, times)
        for name, times in _executions(computations, entry)
        for line in computations[name]
        if (match := _COLLECTIVE.match(line))
    ]
    return [one for one in found if one.devices > 1]


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
    """Each computation's lines by its name, and the entry's name."""
    computations: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in hlo.splitlines():
        if match := _COMPUTATION.match(line):
            lines = computations[match[1]] = []
            entry = match[1] if line.startswith("ENTRY") else entry
        else:
            lines.append(line)
    return computations, entry


def _executions(computations: Mapping[str, list[str]], name: str, times: int = 1) -> Iterator[tuple[str, int]]:
    """(computation, how often this path runs it), from `name` down."""
    yield name, times
    for line in computations[name]:
        if loop := _WHILE.search(line):
            yield from _executions(computations, loop[2], times * _trip_count(computations, *loop.groups()))
        else:
            for callee in _CALLED.findall(line) + _costliest_branch(computations, line):
                yield from _executions(computations, callee, times)


def _costliest_branch(computations: Mapping[str, list[str]], line: str) -> list[str]:
    """The one branch of a conditional that sends most; none on other lines."""
    branches = re.findall(_NAME, ",".join("".join(match) for match in _BRANCHES.findall(line)))
    return [max(branches, key=lambda name: _sent(computations, name))] if branches else []


def _sent(computations: Mapping[str, list[str]], name: str) -> float:
    return sum(one.sent_bytes for one in _collectives(computations, name))


def _trip_count(computations: Mapping[str, list[str]], condition: str, body: str) -> int:
    """Compiled loops count from 0 to the one number their condition compares with, by what their body adds."""
    lines = [line for name, _ in _executions(computations, condition) for line in computations[name]]
    limit = max((int(number) for line in lines for _, number in _INTEGER.findall(line)), default=1)
    counter = next((int(match[1]) for line in lines if (match := _ELEMENT.search(line))), 0)
    return -(-limit // _increment(computations[body], counter))


def _increment(body: Sequence[str], counter: int) -> int:
    """What a loop adds to its counter, one element of the tuple it carries; 1 where the addition is inside a fusion."""
    defined = {match[1]: line for line in body if (match := _DEFINED.match(line))}
    integers = {name: int(number) for line in body for name, number in _INTEGER.findall(line)}
    carried = next(
        (_OPERAND.findall(line.split(" tuple(")[1]) for line in body if "ROOT" in line and " tuple(" in line), []
    )
    line = defined.get(carried[counter], "") if counter < len(carried) else ""
    operands = _OPERAND.findall(line.split(" add(")[1].split(")")[0]) if " add(" in line else []
    return next((integers[name] for name in operands if integers.get(name)), 1)


def _collective(line: str, match: re.Match[str], computation: str, times: int) -> Collective:
    _, shape, kind, start = match.groups()
    devices, payload = _group_size(line), _bytes(shape)
    if start and kind == "all-gather":
        payload /= 1 + 1 / devices  # the shape is (operand, result)
    if start and kind == "collective-permute":
        payload /= 2
    if kind == "reduce-scatter":
        payload *= devices
    # TPUs run an all-reduce of which each device keeps a slice as a reduce-scatter, and name it so.
    if kind == "all-reduce" and computation.startswith("all-reduce-scatter"):
        kind = "reduce-scatter"
    return Collective(kind, payload, devices, times)


def _bytes(shape: str) -> float:
    arrays = ((_BITS.get(kind) or int(re.sub(r"\D.*", "", kind[1:])), sizes) for kind, sizes in _ARRAY.findall(shape))
    return sum(bits / 8 * math.prod(map(int, filter(None, sizes.split(",")))) for bits, sizes in arrays)


def _group_size(line: str) -> int:
    """Devices per group, in any of the notations: {{0,1},{2,3}}, [2,2]<=[4], mesh['a'=2,'b'=2] {'a'}, or pairs."""
    if "source_target_pairs={" in line:
        return 2
    if match := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return len(match[1].split(","))
    if match := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(match[1])
    if match := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", match[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", match[2]))
    raise ValueError(f"unknown notation of replica groups: {line.strip()[:300]}")
