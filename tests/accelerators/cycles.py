"""The TPU compiler's own estimate of a program's cycles, from the text of the compiled program."""

import re


def estimate(text, trips):
    """Cycles of the entry computation.

    Args:
      text: of a program that was compiled for a TPU.
      trips: of while loops whose number of rounds is known at run time alone.

    Of a conditional the cheapest branch counts: it is the walk that has not to be done again.
    Kernels count 0: the compiler does not look into them.
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
        found = re.search(r'"estimated_cycles":"(\d+)"', line)
        return int(found[1]) if found else 0

    return of(entry)
