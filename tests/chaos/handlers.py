"""Handlers of the chaos tests: what users' code does to a worker."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import multiprocessing
import os
import random
import resource
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from typing import Any

from rxtasks import TaskContext, current_task, task
from rxtasks.worker.stacks import DUMP_NAME


def add(a: int, b: int) -> int:
    return a + b


def block(ctx: TaskContext, word: Any = "here") -> None:
    """Say that it is here, then never return."""
    ctx.emit(word)
    threading.Event().wait()


def block_once(ctx: TaskContext, word: Any = "here") -> int:
    """Block in the first attempt; return the attempt in a later one."""
    if ctx.attempt == 1:
        block(ctx, word)
    return ctx.attempt


def quick_then_block(number: int, ctx: TaskContext, at: int = 0) -> int:
    """Return at once, but block in the first attempt of number `at`."""
    if number == at and ctx.attempt == 1:
        block(ctx)
    return number


def obey(ctx: TaskContext) -> None:
    """Run until asked to end."""
    ctx.emit("here")
    while True:
        ctx.raise_if_cancelled()
        time.sleep(0.005)


def wait_for(path: str, ctx: TaskContext) -> str:
    """Say that it is here, and return when the file exists."""
    ctx.emit("here")
    while not os.path.exists(path):
        time.sleep(0.002)
    return path


def hold_gil(seconds: int, ctx: TaskContext) -> str:
    """Keep the interpreter to itself, as a long call of C code does."""
    ctx.emit("here")
    ctx.checkpoint(None)  # it returns when all that was emitted has left
    os.write(1, b"holding\n")  # this leaves without the interpreter
    ctypes.PyDLL(None).sleep(seconds)
    return "done"


def hold_gil_at_once(seconds: int) -> None:
    """Keep the interpreter to itself from the start: not even the report that this has begun gets out."""
    ctypes.PyDLL(None).sleep(seconds)


def leave_watchdog() -> None:
    """Leave a watchdog that ends the process, a while after the attempt."""
    faulthandler.dump_traceback_later(0.2, exit=True)


def wait_past(seconds: float, ctx: TaskContext) -> str:
    """Last longer than a watchdog that was left."""
    threading.Event().wait(seconds)
    return "past"


def leave_multiprocessing(method: str) -> int:
    """Leave a child of multiprocessing, which holds the pipe of its resource tracker; return its pid."""
    child = multiprocessing.get_context(method).Process(target=time.sleep, args=(1000,))
    child.start()
    return child.pid or 0


def open_all() -> list[int]:
    """Open files until there are no more descriptors, and keep them."""
    opened: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with contextlib.suppress(OSError):
        while True:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    return opened


def run_out_of_descriptors() -> str:
    """Fail in the way of a program that leaks descriptors."""
    open_all()
    with open(os.devnull) as file:
        return file.read()


def make_all_blocking_and_block(ctx: TaskContext) -> None:
    make_all_blocking()
    block(ctx)


def make_all_blocking() -> int:
    """Make every descriptor of the worker a blocking one."""
    for fd in range(64):
        with contextlib.suppress(OSError):
            os.set_blocking(fd, True)
    return os.getpid()


# -- deaths ------------------------------------------------------------------------------------------------------------


def die_while_writing(seed: int, size: int, ctx: TaskContext) -> int:
    """Write much, and be killed at a random moment in the first attempt."""
    if ctx.attempt == 1:
        moment = random.Random(seed).uniform(0, 0.02)

        def end() -> None:
            time.sleep(moment)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=end, daemon=True).start()
    for number in range(300):
        ctx.log.info("line {} of {}", number, "x" * (number % 700))
        if number % 50 == 0:
            ctx.emit(number)
    return len(os.urandom(16)) + size


def die_in_result(seed: int, size: int, ctx: TaskContext) -> bytes:
    """Return something large, and be killed while it is written, in the first attempt."""
    if ctx.attempt == 1:
        moment = random.Random(seed).uniform(0, 0.03)

        def end() -> None:
            time.sleep(moment)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=end, daemon=True).start()
    return bytes(size)


def leave(code: int, ctx: TaskContext) -> None:
    ctx.emit("here")
    os._exit(code)


def leave_by_exit(code: Any) -> None:
    sys.exit(code)


def interrupt() -> None:
    raise KeyboardInterrupt("no")


def close_everything(low: int, ctx: TaskContext) -> None:
    ctx.emit("here")
    os.closerange(low, 4096)
    time.sleep(1000)


def close_everything_and_return(low: int) -> int:
    os.closerange(low, 4096)
    return 1


def channel_fd() -> int:
    """Return the descriptor of this worker's channel."""
    for fd in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                return fd
        except OSError:
            pass
    raise LookupError("no channel")


def cover_channel(ctx: TaskContext) -> None:
    """Put another socket over the channel, then stay."""
    ctx.emit("here")
    ctx.checkpoint(None)
    channel = channel_fd()
    ours, theirs = socket.socketpair()
    os.dup2(theirs.fileno(), channel)
    time.sleep(1000)
    ours.close()


def cover_channel_by_file(ctx: TaskContext) -> int:
    channel = channel_fd()
    os.dup2(os.open("/dev/null", os.O_RDWR), channel)
    return 1


# -- frames ------------------------------------------------------------------------------------------------------------


def the_channel() -> Any:
    """Return this worker's channel, from the locals of who called the handler."""
    frame = sys._getframe()
    while not hasattr(frame.f_locals.get("self"), "channel"):
        assert frame.f_back is not None
        frame = frame.f_back
    return frame.f_locals["self"].channel


def forge(kind: str, ctx: TaskContext) -> None:
    """Write bytes into the channel that the worker did not write."""
    ctx.emit("here")
    ctx.checkpoint(None)
    channel = the_channel()
    writer = channel._encoder._writer
    with channel.lock:
        if kind == "noise":
            data = b"x" * 1000
        elif kind == "oversized":
            data = struct.pack("<IIIIQ", 0, int.from_bytes(b"rx\x01\x00", "little"), 2**31, 16, 1)
        elif kind == "oversized head":
            data = struct.pack("<IIIIQ", 0, int.from_bytes(b"rx\x01\x00", "little"), 1000, 2**31, 1)
        elif kind == "repeat":
            frame = writer.frame(b"[1,null]")
            data = frame + frame
        elif kind == "gap":
            writer.frame(b"[]")
            data = writer.frame(b"[]")
        elif kind == "damaged":
            frame = bytearray(writer.frame(b"[1,null,1,2,3]"))
            frame[-1] ^= 1
            data = bytes(frame)
        else:
            data = writer.frame(kind.encode())
        channel._sock.setblocking(True)
        channel._sock.sendall(data)
    time.sleep(1000)


# -- forks, threads and children ---------------------------------------------------------------------------------------


def fork_and_write(ctx: TaskContext) -> str:
    """A child writes into everything that it has, and logs as if it were the task."""
    if os.fork() == 0:
        for _ in range(50):
            print("from the child")
            ctx.log.info("from the child")
            ctx.emit("from the child")
            ctx.progress(1)
        for fd in range(3, 64):
            with contextlib.suppress(OSError):
                os.write(fd, b"from the child")
        os._exit(0)
    os.wait()
    ctx.emit("here")
    return "parent"


def fork_and_return(ctx: TaskContext) -> int:
    """Both come back from the handler."""
    return os.fork()


def daemonise(ctx: TaskContext) -> int:
    """Leave a daemon that keeps standard output."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        daemon = os.fork()
        if daemon == 0:
            os.write(write, b"%d\n" % os.getpid())
            while True:
                os.write(1, b"daemon\n")
                time.sleep(0.01)
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(read, 32))


def leave_thread(word: str) -> str:
    """Leave a thread that prints for some time."""

    def talk() -> None:
        for _ in range(40):
            print(f"{word} from a thread")
            time.sleep(0.005)

    threading.Thread(target=talk, daemon=True).start()
    print(f"{word} from the task")
    return word


def talk(word: str, count: int) -> int:
    for number in range(count):
        print(f"{word} {number}")
        time.sleep(0.002)
    return count


def start_children(ctx: TaskContext) -> None:
    """Start a plain child, one in a session of its own, and a daemon; say their pids and stay."""
    plain = subprocess.Popen(["sleep", "1000"])
    alone = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    daemon = daemonise(ctx)
    ctx.emit([os.getpid(), plain.pid, alone.pid, daemon])
    time.sleep(1000)


# -- output ------------------------------------------------------------------------------------------------------------


def print_much(megabytes: int) -> int:
    line = "x" * 1023
    for _ in range(megabytes * 1024):
        print(line)
    return megabytes


def write_below(word: str) -> str:
    """Write to the descriptors, below Python's streams; the last line has no end."""
    os.write(1, f"{word} one\n{word} two\n".encode())
    os.write(2, f"{word} three\n".encode())
    subprocess.run(["echo", f"{word} four"], check=True)
    os.write(1, f"{word} five".encode())
    return word


def write_below_at_once(milliseconds: int) -> None:
    """Write, and keep the interpreter to itself, so that nobody can report meanwhile that this has begun."""
    libc = ctypes.PyDLL(None)
    libc.write(1, b"at once\n", 8)
    libc.usleep(1000 * milliseconds)


def write_below_then_die(word: str) -> None:
    os.write(1, f"{word} out\n".encode())
    os.write(2, f"{word} err, no end".encode())
    os._exit(3)


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1)


# -- state of the process ----------------------------------------------------------------------------------------------


def spoil(directory: str) -> int:
    """Change everything that a handler can change of its process."""
    os.chdir(directory)
    os.umask(0o077)
    os.environ["CHAOS"] = "1"
    os.environ.pop("PATH", None)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = None
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(null, 2)
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    return os.getpid()


def spoil_deeper(_: str) -> int:
    """Change what belongs to the interpreter, or to the files behind the standard streams."""
    os.environ = {"CHAOS": "2"}  # type: ignore[assignment]  # noqa: B003
    sys.setrecursionlimit(100)
    sys.setswitchinterval(1e6)
    os.set_blocking(1, False)
    os.set_blocking(2, False)
    return os.getpid()


def state() -> dict[str, Any]:
    """Return what of the process `spoil` and `spoil_deeper` change."""
    umask = os.umask(0)
    os.umask(umask)
    return {
        "limits": (sys.getrecursionlimit(), sys.getswitchinterval()),
        "blocking": [os.get_blocking(fd) for fd in (1, 2)],
        "cwd": os.getcwd(),
        "umask": umask,
        "environ": dict(os.environ),
        "signals": [str(signal.getsignal(n)) for n in (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD)],
        "stdin": os.readlink("/proc/self/fd/0"),
        "pipes": [os.readlink(f"/proc/self/fd/{fd}") for fd in (1, 2)],
        "children": open(f"/proc/self/task/{os.getpid()}/children").read(),
        "pid": os.getpid(),
    }


# -- much at once ------------------------------------------------------------------------------------------------------


async def echo(blob: bytes) -> bytes:
    return blob


async def linger(ctx: TaskContext) -> None:
    import asyncio

    ctx.emit("here")
    await asyncio.sleep(1000)


# -- what cannot travel ------------------------------------------------------------------------------------------------


class OddError(Exception):
    """Cannot be rebuilt from what pickle keeps of it."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("odd")


class LockedError(Exception):
    """Holds what cannot be pickled."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


class TalkerError(Exception):
    """Leaves the program when it is asked what it is."""

    def __str__(self) -> str:
        raise SystemExit(3)


class CodedError(Exception):
    @property
    def code(self) -> int:
        raise KeyboardInterrupt

    @property
    def details(self) -> Any:
        raise SystemExit(3)


class ReducerError(Exception):
    def __reduce__(self) -> Any:
        raise SystemExit(3)


def raise_this(kind: type[Exception]) -> None:
    raise kind("odd")


class Leaver:
    """Leaves the program where it is loaded."""

    def __reduce__(self) -> Any:
        return (sys.exit, (3,))


class LeaverError(Exception):
    """Leaves the program where it is rebuilt."""

    def __reduce__(self) -> Any:
        return (sys.exit, (3,))


def return_leaver() -> Any:
    return Leaver()


class Unpicklable:
    def __reduce__(self) -> Any:
        raise RuntimeError("refuses to be pickled")


class Undying:
    """Cannot be loaded where it arrives."""

    def __reduce__(self) -> Any:
        return (_refuse, ())


def _refuse() -> None:
    raise ValueError("refuses to be loaded")


def return_lock() -> Any:
    return {"a": [1, threading.Lock()]}


def return_unpicklable() -> Any:
    return [Unpicklable()]


def return_generatorlike() -> Any:
    return iter([1])


def emit_lock(ctx: TaskContext) -> int:
    ctx.emit(threading.Lock())
    return 1


def raise_locked() -> None:
    raise LockedError("locked")


def raise_with_lock() -> None:
    raise ValueError(threading.Lock())


def raise_odd() -> None:
    raise OddError(1, 2)


def take(value: Any) -> str:
    return type(value).__name__


# -- set-up ------------------------------------------------------------------------------------------------------------


def good_initializer() -> None: ...


def bad_initializer() -> None:
    raise RuntimeError("no such licence")


def hanging_initializer() -> None:
    time.sleep(1000)


def leaving_initializer() -> None:
    os.write(2, b"the licence server said no\n")
    os._exit(9)


@task
def named(value: int) -> int:
    assert current_task() is not None
    return value


def return_undying() -> Any:
    return Undying()


# -- large values ------------------------------------------------------------------------------------------------------


def total(array: Any) -> float:
    """Read all of an array."""
    return float(array.sum())


def plus_one(array: Any) -> Any:
    """Change an array where it lies, and return it."""
    array += 1
    return array


def plus_one_then_fail(array: Any, ctx: TaskContext) -> float:
    """Change the array; fail in the first attempt, and say in the second what it is then."""
    array += 1
    if ctx.attempt == 1:
        raise ValueError("again")
    return float(array.sum())


def change_then_die(array: Any, ctx: TaskContext) -> float:
    """Change the array; die in the first attempt, and say in the second what it is then."""
    array += 1
    if ctx.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return float(array.sum())


def zeros(megabytes: int) -> Any:
    """Return so many bytes in an array."""
    import numpy as np

    return np.zeros(megabytes << 20, "u1")


def wait_with(array: Any, path: str, ctx: TaskContext) -> float:
    """Hold an array until a file is there."""
    wait_for(path, ctx)
    return float(array.sum())


def memory_files(*_: Any) -> int:
    """Return how many memory files this worker has mapped or open."""
    import gc

    gc.collect()
    with open("/proc/self/maps") as maps:
        count = sum("memfd:" in line for line in maps)
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            name = os.readlink(f"/proc/self/fd/{fd}")
            # Where a worker writes its stacks to belongs to it, not to a value.
            count += "memfd:" in name and f"memfd:{DUMP_NAME}" not in name
    return count


def look_at(put: Any) -> tuple[int, int, bool, float]:
    """Return the worker's pid, the identity of the array, whether it can be written to, and its sum."""
    return os.getpid(), id(put), put.flags.writeable, float(put.sum())


def dig(value: dict[str, Any]) -> tuple[bool, float]:
    """Find the same object twice, deep in an argument."""
    one, two = value["a"][0]["b"], value["c"].path
    return one is two, float(one.sum())


def emit_bytes(count: int, ctx: TaskContext) -> None:
    """Emit so many bytes."""
    ctx.emit(bytes(count))


def checkpoint_bytes(count: int, ctx: TaskContext) -> int:
    """Save so many bytes, fail, and return how many have been restored."""
    if ctx.restored is None:
        ctx.checkpoint(bytes(count))
        raise ValueError("again")
    return len(ctx.restored)


def raise_bytes(count: int) -> None:
    """Raise an exception with so many bytes."""
    raise ValueError(bytes(count))


def pass_unsealed(kind: str, ctx: TaskContext) -> None:
    """Give the parent a memory file that it must not map, then say that the result lies there."""
    ctx.emit("here")
    ctx.checkpoint(None)
    channel = the_channel()
    size = announced = 1 << 20
    number = 1
    fd = os.memfd_create("hostile", os.MFD_ALLOW_SEALING)
    os.write(fd, bytes(size))
    if kind == "file":
        fd = os.open(sys.executable, os.O_RDONLY)
    elif kind == "larger":
        import fcntl

        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 15)
        announced = 2 * size
    elif kind == "not passed":
        number = 2
    elif kind == "huge":
        announced = 2**40
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))]
    token = ctx._assignment.token
    row = f'[1,{token},3,1,"succeeded",["p",{announced},"x","x"],null,null,1]'
    with channel.lock:
        channel._passing._sock.sendmsg([struct.pack("<Q", 1)], rights)
        head = f"[34,[[{number},{announced}]],[{row}],0]"
        channel._sock.setblocking(True)
        channel._sock.sendall(channel._encoder._writer.frame(head.encode()))
    if kind == "cut":
        os.ftruncate(fd, 0)
    time.sleep(1000)


def note(path: str, number: int) -> int:
    """Write the number to a file that all workers share, and take a moment; return the worker's process id."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"%d\n" % number)
    os.close(fd)
    time.sleep(0.002)
    return os.getpid()


_HOARD: list[bytes] = []


def hoard(megabytes: int) -> int:
    """Leak so much memory; return the worker's process id."""
    _HOARD.append(b"x" * (megabytes * 2**20))
    return os.getpid()


async def hoard_beside(megabytes: int) -> int:
    return hoard(megabytes)


def take_turn(path: str) -> None:
    """An initializer: wait for a byte from a FIFO."""
    with open(path, "rb", buffering=0) as turns:
        turns.read(1)


async def total_beside(array: Any) -> float:
    return total(array)


def give_back(value: Any) -> Any:
    return value


def one_object(value: Any, nested: list[Any]) -> bool:
    """Say whether what is nested is the value itself."""
    return nested[0] is value and nested[1]["a"] is value


def pid_with(*args: Any, **kwargs: Any) -> int:
    return os.getpid()


def twice(value: Any) -> Any:
    """Return it twice as long."""
    import numpy as np

    return np.concatenate([value, value]) if isinstance(value, np.ndarray) else value * 2
