"""The TPU compiler's own estimate of a program's cycles, from what it says about the program."""

import pathlib
import re


def estimate(text, trips, kernels=()):
    """Cycles of the entry computation.

    Args:
      text: of a program that was compiled for a TPU.
      trips: of while loops whose number of rounds is known at run time alone.
      kernels: cycles of their calls by name, as `of_kernels` gives them; the compiler does not look
        into a kernel, so others count 0.

    Of a conditional the cheapest branch counts: it is the walk that has not to be done again.
    """
    bodies, entry, name = {}, None, None
    for line in text.splitlines():
        if found := re.match(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            name = found[2]
            bodies[name] = []
            entry = name if found[1] else entry
        elif name:
            bodies[name].append(line)

    def of(name):
        return sum(map(of_line, bodies.get(name, [])))

    def of_line(line):
        if loop := re.search(r" while\(.*body=%?([\w.\-]+)", line):
            known = re.search(r'"known_trip_count":\{"n":"(\d+)"', line)
            return (int(known[1]) if known else trips) * of(loop[1])
        if " conditional(" in line:
            listed = re.search(r"branch_computations=\{(.*?)\}", line)
            names = (
                listed[1].replace("%", "").split(", ")
                if listed
                else re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", line)
            )
            return min(map(of, names))
        if call := re.search(r" call\(.*to_apply=%?([\w.\-]+)", line):
            return of(call[1])
        kernel = re.match(r"\s*(?:ROOT )?%?([\w.\-]+) = .* custom-call\(", line)
        if kernel and kernel[1] in kernels:
            return kernels[kernel[1]]
        found = re.search(r'"estimated_cycles":"(\d+)"', line)
        return int(found[1]) if found else 0

    return of(entry)


def of_kernels(folder, steps_of_a_row):
    """Cycles of every kernel's call, from what the compiler dumped: its bundles of instructions.

    A bundle is a cycle if nothing stalls. What a kernel does first and last for a block of queries
    counts once for `steps_of_a_row`, the steps of its grid over the keys; the rest in every step.
    """
    found = {}
    for file in pathlib.Path(folder).glob("*_kernel*-final_bundles.txt"):
        if "schedule" in file.name:
            continue
        name, text = re.sub(r"^\d+-(.*)-\d+-final_bundles.txt", r"\1", file.name), file.read_text()
        bundles = re.findall(r"^\s*(0x[0-9a-f]+|0)\s+(\w\w:)?(.*)", text, re.MULTILINE)
        skips, now_and_then = [], 0  # a skip of a skip is what the first or last step alone does
        for address, mark, rest in bundles:
            if mark == "PF:" and skips:
                begin, depth = skips.pop(), len(skips)
                now_and_then += depth and int(address, 16) - begin
            if "sbr.rel" in rest:
                skips.append(int(address, 16))
        steps = int(re.search(r", (\d+) /\* loop exit test", text)[1]) - 2  # of the pipeline
        found[name] = steps * (len(bundles) - now_and_then) + steps // steps_of_a_row * now_and_then
    return found
