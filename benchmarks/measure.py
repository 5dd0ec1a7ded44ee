"""One measurement in a process of its own: `python -m benchmarks.measure MODULE:FUNCTION PARAMETERS OUT`.

FUNCTION gets PARAMETERS (a JSON object) as keyword arguments and returns its samples, a flat mapping of names to
numbers, which are written to the file OUT as JSON. Imports nothing of its own, so that a pool that imports this
`__main__` again in its children pays nothing for it.
"""

import importlib
import json
import sys


def main() -> None:
    """Run the one measurement that the command line names."""
    target, parameters, out = sys.argv[1:]
    module, _, function = target.partition(":")
    samples = getattr(importlib.import_module(module), function)(**json.loads(parameters))
    with open(out, "w", encoding="utf-8") as file:
        json.dump(samples, file)


if __name__ == "__main__":
    main()
