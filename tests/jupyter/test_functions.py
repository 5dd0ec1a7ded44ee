"""Functions of cells as people write them, each in a worker process and back, in a real kernel."""

from __future__ import annotations

import pytest

from tests.jupyter.kernel import Kernel

#: name -> cells to run; the last one prints what is expected.
CASES: dict[str, tuple[tuple[str, ...], str]] = {
    "imports, constants, classes, lambdas and closures": (
        (
            "import math\nK = 3\nclass H:\n    def f(self, x): return math.sqrt(x) * K\nplus = lambda x: x + 1\n"
            "def make(n):\n    def inner(x): return x * n\n    return inner\ntimes = make(4)\n"
            "def use(x): return H().f(x), plus(x), times(x)",
            "print(service.submit(use, 4).result())",
        ),
        "(6.0, 5, 16)",
    ),
    "a decorated function": (
        (
            "import functools\ndef shout(f):\n    @functools.wraps(f)\n    def inner(*a): return ('deco', f(*a))\n"
            "    return inner\n@shout\ndef decorated(x): return x",
            "print(service.submit(decorated, 1).result())",
        ),
        "('deco', 1)",
    ),
    "an async function and its helper": (
        (
            "async def twice(x):\n    import asyncio\n    await asyncio.sleep(0)\n    return 2 * x\n"
            "async def fetch(x): return await twice(x)",
            "print(await service.submit(fetch, 4))",
        ),
        "8",
    ),
    "a generator emits": (
        (
            "def numbers(n):\n    yield from range(n)",
            "t = service.submit(numbers, 3); t.result(); seen = []\n"
            "t.outputs.subscribe(lambda e: seen.append(e.value)); service.flush(20); print(seen)",
        ),
        "[0, 1, 2]",
    ),
    "functions with a cache": (
        (
            "@functools.cache\ndef fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
            "def cached(n): return fib(n), fib.cache_info().currsize\n"
            "class C:\n    @functools.lru_cache(maxsize=3)\n    def m(self, x): return x + 1\n"
            "def method(): return C().m(1), C.m.cache_parameters()['maxsize']",
            "print(service.submit(fib, 20).result(), service.submit(cached, 20).result(), service.submit(method).result())",
        ),
        "6765 (6765, 21) (2, 3)",
    ),
    "a cached property": (
        (
            "class Lazy:\n    @functools.cached_property\n    def v(self): return 42\n"
            "def lazy():\n    made = Lazy()\n    return made, made.v",
            "made, v = service.submit(lazy).result(); print(type(made) is Lazy, v, made.v, Lazy().v)",
        ),
        "True 42 42 42",
    ),
    "a function that dispatches by type": (
        (
            "@functools.singledispatch\ndef kind(x): return 'any'\n@kind.register\ndef _(x: int): return kind(str(x))\n"
            "@kind.register\ndef _(x: str): return 'text ' + x\n"
            "class M:\n    @functools.singledispatchmethod\n    def m(self, x): return 'any'\n"
            "    @m.register\n    def _(self, x: int): return 'int'\n"
            "def kinds(): return kind(1.5), kind(3), M().m(1), kind.__name__",
            "print(service.submit(kinds).result())",
        ),
        "('any', 'text 3', 'int', 'kind')",
    ),
    "names of types": (
        (
            "import typing\nUid = typing.NewType('Uid', int)\nT = typing.TypeVar('T')\nP = typing.ParamSpec('P')\n"
            "Ts = typing.TypeVarTuple('Ts')\n"
            "def typed(x: Uid, f: typing.Callable[P, T] | None = None, *more: *Ts) -> Uid: return Uid(x + 1)\n"
            "class G(typing.Generic[T]):\n    def __init__(self, x: T): self.x = x\n"
            "def generic(): return G[int](3)",
            "r = service.submit(generic).result(); print(service.submit(typed, 1).result(), type(r) is G, r.x)",
        ),
        "2 True 3",
    ),
    "classes with slots": (
        (
            "import dataclasses\nclass S:\n    __slots__ = ('x', '__y')\n"
            "    def __init__(self, x): self.x, self.__y = x, 2 * x\n    def y(self): return self.__y\n"
            "class Mixin: __slots__ = ()\n"
            "@dataclasses.dataclass(slots=True)\nclass D(Mixin):\n    x: int\n    y: int = 3\n"
            "def slotted(s, d): return S(s.x + 1), D(d.x + 1), hasattr(s, '__dict__')",
            "s, d, loose = service.submit(slotted, S(1), D(1)).result()\nprint(type(s) is S, s.x, s.y(), d == D(2), loose)",
        ),
        "True 2 4 True False",
    ),
    "enums, flags, named tuples": (
        (
            "import enum, collections\nclass E(enum.Enum):\n    A = 1\nclass F(enum.Flag):\n    X = 1\n    Y = 2\n"
            "class W(enum.StrEnum):\n    P = 'p'\nclass N(typing.NamedTuple):\n    a: int\n    b: str = 'x'\n"
            "M = collections.namedtuple('M', 'x y')\n"
            "def words(e): return e, F.X | F.Y, W.P, N(1), M(1, 2)",
            "e, f, w, n, m = service.submit(words, E.A).result()\n"
            "print(e is E.A, f is F.X | F.Y, w is W.P, n == N(1), type(n) is N, type(m) is M)",
        ),
        "True True True True True True",
    ),
    "super, class methods, properties, nested and abstract classes, metaclasses": (
        (
            "import abc\nclass Meta(abc.ABCMeta):\n    def __new__(m, n, b, d):\n        d['tag'] = n\n"
            "        return super().__new__(m, n, b, d)\n"
            "class Base(metaclass=Meta):\n    def __init__(self): self.z = 1\n    @classmethod\n    def make(cls, v):\n"
            "        made = cls(); made.v = v; return made\n    @property\n    def p(self): return self.v * 2\n"
            "    @abc.abstractmethod\n    def go(self): ...\n"
            "class Child(Base):\n    class Inner: pass\n    def __init__(self): super().__init__(); self.i = Child.Inner()\n"
            "    def go(self): return __class__.tag\n"
            "def child(v): return Child.make(v)",
            "c = service.submit(child, 5).result(); d = service.submit(Child.make, 7).result()\n"
            "print(type(c) is Child, type(c.i) is Child.Inner, c.z, c.p, c.go(), d.v)",
        ),
        "True True 1 10 Child 7",
    ),
    "functions that call each other, one edited": (
        (
            "def even(n): return n == 0 or odd(n - 1)\ndef odd(n): return n != 0 and even(n - 1)",
            "before = service.submit(even, 10).result()\ndef odd(n): return 'edited'",
            "print(before, service.submit(even, 10).result())",
        ),
        "True edited",
    ),
    "a helper three calls down, edited": (
        (
            "def low(): return 1\ndef mid(): return low()\ndef high(): return mid()",
            "before = service.submit(high).result()\ndef low(): return 2",
            "print(before, service.submit(high).result())",
        ),
        "1 2",
    ),
    "a class whose method or attribute was edited": (
        (
            "class Cfg:\n    rate = 1\n    def v(self): return self.rate\ndef ask(): return Cfg().v()",
            "seen = [service.submit(ask).result()]\nCfg.rate = 2\nseen.append(service.submit(ask).result())",
            "Cfg.v = lambda self: 30\nseen.append(service.submit(ask).result())",
            "class Cfg:\n    def v(self): return 4",
            "print(seen, service.submit(ask).result())",
        ),
        "[1, 2, 30] 4",
    ),
    "globals changed in place, and one that came later": (
        (
            "items, table = [1], {'a': 1}\ndef both(): return items, table\ndef late(): return LATER",
            "service.submit(both).result(); items.append(2); table['b'] = 2",
            "try: service.submit(late).result()\nexcept NameError as error: said = str(error)\nLATER = 5",
            "print(service.submit(both).result(), said, service.submit(late).result())",
        ),
        "([1, 2], {'a': 1, 'b': 2}) name 'LATER' is not defined 5",
    ),
    "partials and functions in containers, edited": (
        (
            "def op(x): return x + 1\nops = {'op': op}\ndef via(x): return ops['op'](x)\npart = functools.partial(via, 5)",
            "before = service.submit(part).result()\ndef op(x): return x + 100\nops['op'] = op",
            "print(before, service.submit(part).result())",
        ),
        "6 105",
    ),
    "what a worker changes stays there": (
        (
            "count = [0]\ndef grow():\n    count[0] += 1\n    return count[0]",
            "service.submit(grow).result(); print(count)",
        ),
        "[0]",
    ),
    "large arrays among the globals": (
        (
            "import numpy as np\nbig = np.ones(2_000_000)\ndef pick(i): return float(big[i]) + i",
            "with iterate(service.map(pick, range(8))) as values: print(sum(values))",
        ),
        "36.0",
    ),
    "classes as values, and functions as results": (
        (
            "class Some: pass\ndef adder(n):\n    return lambda x: x + n",
            "print(service.submit(lambda: Some).result() is Some, service.submit(adder, 3).result()(4))",
        ),
        "True 7",
    ),
    "a task of a cell, named, with annotations that are strings": (
        (
            "from __future__ import annotations\n"
            "@task(name='nice', timeout=30)\ndef nice(x: Some, ctx: TaskContext) -> Some:\n    ctx.log.info('hi')\n"
            "    return x",
            "t = service.submit(nice, Some()); print(type(t.result()) is Some, t.name, [e.message for e in t.log_tail])",
        ),
        "True nice ['hi']",
    ),
    "print, display and a progress bar become log lines": (
        (
            "def talks():\n    import sys\n    from IPython.display import display\n    print('printed')\n"
            "    display('shown')\n    sys.stderr.write('50%\\n')",
            "t = service.submit(talks); t.result(); service.flush(20)\nprint([(e.stream, e.message) for e in t.log_tail])",
        ),
        "[('stdout', 'printed'), ('stdout', 'shown'), ('stderr', '50%')]",
    ),
    "input has nobody to ask": (
        (
            "def asks(): return input('?')",
            "try: service.submit(asks).result()\nexcept EOFError as error: print('EOFError')",
        ),
        "EOFError",
    ),
    "exceptions of cells": (
        (
            "class Bad(Exception):\n    def __init__(self, code, why):\n        super().__init__(why)\n"
            "        self.code = code\nclass Worse(Bad): pass\nclass Point:\n    def __init__(self, x): self.x = x\n"
            "class Own(Exception):\n    def __init__(self, a, b): super().__init__('own'); self.a = a\n"
            "    def __reduce__(self): return Own, (self.a, 2)\n"
            "def raises(error): raise error\ndef worse(): raise Worse(3, 'boom')\n"
            "def pointed(): raise ValueError('at', Point(7))\ndef own(): raise Own(1, 2)",
            "try: service.submit(worse).result()\nexcept Bad as error: print(type(error) is Worse, error.code, error)\n"
            "try: service.submit(pointed).result()\nexcept ValueError as error: print(type(error.args[1]) is Point)\n"
            "try: service.submit(own).result()\nexcept Own as error: print(error.a)",
        ),
        "True 3 boom\nTrue\n1",
    ),
    "groups of exceptions of cells": (
        (
            "def group(): raise ExceptionGroup('all', [ValueError(1), ExceptionGroup('in', [Worse(4, 'deep')])])",
            "try: service.submit(group).result()\n"
            "except* Bad as found: print([e.exceptions[0].code for e in found.exceptions])\n"
            "except* ValueError as found: print(found.exceptions)",
        ),
        "[4]\n(ValueError(1),)",
    ),
    "%%time": (("%%time\nprint(service.submit(len, 'abc').result())",), "3"),
    "await of many": (
        ("import asyncio\nprint(await asyncio.gather(*[service.submit(len, 'a' * i) for i in range(3)]))",),
        "[0, 1, 2]",
    ),
    "async iteration": (
        (
            "async with aiterate(service.map(len, ['a', 'bb'])) as values:\n    print([value async for value in values])",
        ),
        "[1, 2]",
    ),
    "processes of a task's own": (
        (
            "def pooled():\n    import multiprocessing\n    with multiprocessing.get_context('fork').Pool(1) as own:\n"
            "        return own.map(abs, [-1])",
            "print(service.submit(pooled).result())",
        ),
        "[1]",
    ),
    "%run, twice": (
        (
            "def script(k):\n    with open('script.py', 'w') as f:\n"
            "        f.write(f'K = {k}\\nclass R: pass\\ndef run(x): return x * K, R()\\n')\nscript(7)",
            "%run script.py",
            "one, made = service.submit(run, 2).result(); print(one, type(made) is R); script(8)",
            "%run script.py",
            "print(service.submit(run, 2).result()[0])",
        ),
        "16",
    ),
    "a module that was edited, after a restart": (
        (
            "sys.path.insert(0, '')\ndef write(k):\n    with open('edited.py', 'w') as f: f.write(f'def k(): return {k}\\n')\n"
            "    os.utime('edited.py', (k, k))\nwrite(1000)",
            "%load_ext autoreload",
            "%autoreload 2",
            "import edited\ndef via(): return edited.k()\nprint(service.submit(via).result())\nwrite(200000)",
            "service.stop(); service.start()\nprint(edited.k(), service.submit(edited.k).result())",
            "%autoreload 0",
            "print(sys.path.pop(0) == '', service.submit(via).result())",
        ),
        "True 200000",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_function_of_a_cell_runs_in_a_worker(kernel: Kernel, name: str) -> None:
    """N-01: with all that it refers to, and its results are the kernel's own."""
    cells, expected = CASES[name]
    *before, last = cells
    for cell in before:
        kernel.run(cell)
    text = kernel.run(last).text
    assert expected == "\n".join(line for line in text.splitlines() if not line.startswith(("CPU", "Wall")))


#: A cell -> the part of the error that names what cannot travel.
NAMED = {
    "def f(): return lock": "function.<lock> (lock)",
    "def f(): return [lock for _ in range(2)]": "function.<lock> (lock)",
    "def g(): return lock\ndef f(): return g()": "function.<g>.<lock> (lock)",
    "class H:\n    def m(self): return [lock for _ in 'a']\ndef f(): return H().m()": "function.<H>.m.<lock> (lock)",
    "class H:\n    def __init__(self): self.held = lock\n    def m(self): pass\nf = H().m": "function.__self__.held (lock)",
    "def f(x=lock): pass": "function.__defaults__[0] (lock)",
    "def f(*, x=lock): pass": "function.__kwdefaults__['x'] (lock)",
    "import functools\nf = functools.partial(len, lock)": "function.args[0] (lock)",
    "handle = open('/dev/null')\ndef f(): return [handle for _ in 'a']": "function.<handle> (TextIOWrapper)",
    "numbers = (i for i in 'a')\ndef f(): return numbers": "function.<numbers> (generator)",
    "def f(): return service.status()": "function.<service>.",
    "def f(): return get_ipython()": "function.<get_ipython>.",
}


@pytest.mark.parametrize("cell", NAMED, ids=NAMED.get)
def test_what_cannot_travel_is_named(kernel: Kernel, cell: str) -> None:
    """N-01: wherever the function finds it: also in a comprehension, a default, a partial or a bound method."""
    kernel.run(f"import threading\nlock = threading.Lock()\n{cell}")
    said = kernel.run("try: service.submit(f)\nexcept PayloadError as error: print(error)").text
    assert f"because of {NAMED[cell]}" in said
    assert "cannot" in said.partition("because of")[2]
