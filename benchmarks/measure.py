"""One measurement in a process of its own: `python -m benchmarks.measure MODULE:FUNCTION PARAMETERS OUT SECONDS`.

FUNCTION gets PARAMETERS (a JSON object) as keyword arguments and returns its samples, a flat mapping of names to
numbers, which are written to the file OUT as JSON. One that takes longer than SECONDS ends with the stacks of its
threads on stderr. Imports little, so that a pool that imports this `__main__` again in its children pays little for it.
"""

import faulthandler
import importlib
import json
import sys


def main() -> None:
    """Run the one measurement that the command line names."""
    target, parameters, out, seconds = sys.argv[1:]
    faulthandler.dump_traceback_later(float(seconds), exit=True)
    module, _, function = target.partition(":")
    samples = getattr(importlib.import_module(module), function)(**json.loads(parameters))
    with open(out, "w", encoding="utf-8") as file:
        json.dump(samples, file)


if __name__ == "__main__":
    main()
