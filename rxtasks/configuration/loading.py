"""load(): one tree of settings from flags, the environment, a file and the defaults, with the source of each value."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import attrs

from rxtasks.config import make_settings
from rxtasks.configuration.files import Found, find, named
from rxtasks.configuration.keys import nearest
from rxtasks.configuration.kinds import Kind, absolute
from rxtasks.configuration.places import make_private, state_directory
from rxtasks.configuration.reading import Read, from_environment, from_file, from_flags
from rxtasks.configuration.tree import COVERED, KIND, Values, kind_of
from rxtasks.errors import SettingsError
from rxtasks.lifecycle.options import ResourceLimits

if TYPE_CHECKING:
    from typed_settings.types import LoadedSettings, OptionList

__all__ = ["Configuration", "ConfigurationError", "assignments", "file_in_use", "kinds_by_path", "load"]

_NO_FLAGS: Final[Mapping[str, object]] = MappingProxyType({})
_MIB: Final = 2**20
_STATE: Final = "state directory"
_DEFAULT: Final = "default"


class ConfigurationError(SettingsError):
    """Settings are wrong; `mistakes` has a sentence for each."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__(
            mistakes[0]
            if len(mistakes) == 1
            else "\n".join([f"{len(mistakes)} mistakes in the settings", *(f"- {mistake}" for mistake in mistakes)])
        )
        self.mistakes = tuple(mistakes)


@attrs.frozen
class Configuration:
    """All settings and where each comes from."""

    values: Values
    #: Dotted path -> "flag --store", "environment RXTASKS_STORE", the path of a file, "state directory" or "default".
    sources: Mapping[str, str]
    #: The file that was read, None if there is none.
    file: Path | None = None
    #: What is no mistake and may still surprise.
    warnings: tuple[str, ...] = ()

    def value(self, path: str) -> Any:
        """Return a setting by its dotted path.

        Raises:
            SettingsError: there is none.
        """
        if path not in self.sources:
            near = nearest(path, self.sources)
            raise SettingsError(f"there is no setting {path}" + (f"; did you mean {near[0]}?" if near else ""))
        found: Any = self.values
        for name in path.split("."):
            found = getattr(found, name)
        return found

    def service_arguments(self) -> dict[str, Any]:
        """Return the arguments for a TaskService with these settings, and make the directory of the store that is the default.

        Raises:
            SettingsError: that directory cannot be made.
        """
        values, workers = self.values, self.values.workers
        if self.sources["store"] == _STATE:
            make_private(Path(values.store.removeprefix("sqlite:///")).parent)
        arguments = _service_settings(values)
        arguments |= {
            "store": values.store,
            "modules": values.modules,
            "fallback": workers.fallback,
            "isolation": workers.mode,
            "concurrency": workers.concurrency,
            "workers": workers.count,
        }
        if workers.queues is not None and workers.count != 0:
            from rxtasks.machine import usable_cpus
            from rxtasks.pool.info import WorkerSpec

            count = workers.count or usable_cpus()
            spec = WorkerSpec(count, workers.mode, queues=workers.queues, concurrency=workers.concurrency)
            arguments["workers"] = [spec]
        return arguments

    def control_token(self, environ: Mapping[str, str] | None = None) -> str | None:
        """Return the token of the control API, from its file or else from the environment; None if there is none.

        Raises:
            SettingsError: the file cannot be read, others can read it, or there is nothing in it.
        """
        from rxtasks.configuration.token import read_token

        return read_token(self.values.control, os.environ if environ is None else environ)


def _service_settings(values: Values) -> dict[str, Any]:
    """Return the fields of rxtasks.config.Settings."""
    workers, limits = values.workers, values.workers.limits
    settings = {field.name: getattr(values.service, field.name) for field in attrs.fields(type(values.service))}
    memory, disk = limits.memory_mb, limits.disk_mb
    made = ResourceLimits(
        limits.cpu_percent,
        None if memory is None else int(memory * _MIB),
        None if disk is None else int(disk * _MIB),
        workers.resources.over_limit_action,  # type: ignore[arg-type]
    )
    return settings | {
        "drain_timeout": float(workers.drain_timeout_seconds),
        "poll_interval": workers.poll_interval_ms / 1000,
        "idle_backoff_max": workers.idle_backoff_max_ms / 1000,
        "limits": made if made.bounded else None,
        "retention": values.retain_days,
    }


def kinds_by_path(tree: type[Any] = Values, prefix: str = "") -> dict[str, Kind]:
    """Return every setting, by its dotted path, with what it takes."""
    found: dict[str, Kind] = {}
    attrs.resolve_types(tree)
    for field in attrs.fields(tree):
        if KIND in field.metadata:
            found[prefix + field.name] = kind_of(field)
        else:
            found |= kinds_by_path(field.type, f"{prefix}{field.name}.")
    return found


def assignments(pairs: Sequence[str], flags: Mapping[str, object] = _NO_FLAGS) -> dict[str, object]:
    """Return the flags that `--set KEY=VALUE` stands for, with `flags`, which beat them; None in there: it was not given.

    Raises:
        SettingsError: there is no = in one of them.
    """
    made: dict[str, object] = {}
    for pair in pairs:
        path, sign, value = pair.partition("=")
        if not sign:
            raise SettingsError(f"--set takes KEY=VALUE, as workers.limits.memory_mb=512, not {pair!r}")
        made[path.strip()] = value
    return made | {path: value for path, value in flags.items() if value is not None}


def load(
    flags: Mapping[str, object] = _NO_FLAGS,
    *,
    directory: Path | None = None,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Configuration:
    """Return the settings: flags beat the environment, that beats the file, and that beats the defaults.

    Args:
        flags: settings by dotted path ("store", "workers.count"), as values or as text; None: it was not given.
        directory: where the search for a file begins, and what relative paths of flags and the environment count from;
            None: the working directory.
        environ: the environment; None: that of this process.
        file: the file to read (--config) instead of searching; RXTASKS_CONFIG names one too.

    Raises:
        SettingsError: a key or a value is wrong (a ConfigurationError, with all of them), a file cannot be read, or
            typed-settings is not installed.
    """
    environ = os.environ if environ is None else environ
    directory = Path(os.path.abspath(_here() if directory is None else directory))
    found = file_in_use(directory=directory, environ=environ, file=file)
    kinds = kinds_by_path()
    reads = [from_environment(environ, kinds, str(directory)), from_flags(flags, kinds, str(directory))]
    if found is not None:
        reads.insert(0, from_file(found, kinds))
    mistakes = [mistake for read in reads for mistake in read.mistakes]
    if mistakes:
        raise ConfigurationError(mistakes)
    sources = dict.fromkeys(kinds, _DEFAULT)
    for read in (_defaults(environ), *reads):
        sources |= read.places
    values = _settle([_defaults(environ), *reads])
    _check_together(values, sources)
    return Configuration(
        values,
        MappingProxyType(sources),
        None if found is None else found.path,
        tuple(warning for read in reads for warning in read.warnings if f" {values.control.token_env} " not in warning),
    )


def _here() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise SettingsError(
            f"the working directory is not there any more ({error.strerror}); change to another"
        ) from error


def _absolute(file: Path, directory: Path) -> Path:
    return Path(absolute(str(file), str(directory)))


def file_in_use(
    *, directory: Path | None = None, environ: Mapping[str, str] | None = None, file: Path | None = None
) -> Found | None:
    """Return the configuration file that load() with these arguments reads, None if there is none.

    Raises:
        SettingsError: the one that is named is not there, or it cannot be read.
    """
    environ = os.environ if environ is None else environ
    directory = _here() if directory is None else directory
    if file is not None:
        return named(_absolute(file, directory), "flag --config")
    by = environ.get("RXTASKS_CONFIG", "")
    if by:
        return named(_absolute(Path(by), directory), "environment RXTASKS_CONFIG")
    return find(directory, environ)


def _defaults(environ: Mapping[str, str]) -> Read:
    """Return the defaults that depend on the user."""
    made = Read()
    state = state_directory(environ)
    made.take("store", _STATE, f"sqlite:///{state / 'tasks.db'}")
    made.take("logs.directory", _STATE, str(state / "logs"))
    return made


def _settle(reads: list[Read]) -> Values:
    """Return the tree that these sources make, later ones first."""
    try:
        import typed_settings
        from typed_settings.dict_utils import set_path
        from typed_settings.types import LoadedSettings, LoaderMeta
    except ModuleNotFoundError as error:
        raise SettingsError(
            "reading settings needs typed-settings; install it with: pip install 'rxtasks[cli]'"
        ) from error

    def loader(read: Read) -> Any:
        def loads(settings_cls: type[Any], options: OptionList) -> LoadedSettings:
            values: dict[str, Any] = {}
            for path, value in read.values.items():
                set_path(values, path, value)
            return LoadedSettings(values, LoaderMeta("rxtasks"))

        return loads

    return typed_settings.load_settings(Values, [loader(read) for read in reads], converter=_Checked())


class _Checked:
    """A converter for values that the loaders have checked: it only makes the classes."""

    def structure(self, obj: Any, cl: type[Any]) -> Any:
        """Return the value, or the class made of it."""
        if not (isinstance(cl, type) and attrs.has(cl)):
            return obj
        names = attrs.fields_dict(cl)
        return cl(**{name: self.structure(value, names[name].type) for name, value in obj.items()})  # type: ignore[arg-type]

    def get_structure_hook(self, cl: type[Any]) -> Any:
        """Return what makes a value of a class."""
        return self.structure


def _check_together(values: Values, sources: Mapping[str, str]) -> None:
    """See whether the settings go together.

    Raises:
        ConfigurationError: they do not; names those that it is about, and where they stand.
    """
    poll, most = "workers.poll_interval_ms", "workers.idle_backoff_max_ms"
    workers = values.workers
    if sources[most] != _DEFAULT and workers.idle_backoff_max_ms < workers.poll_interval_ms:
        raise ConfigurationError(
            [
                f"{sources[most]}: {most} is at least {poll} ({workers.poll_interval_ms:g}: {sources[poll]}),"
                f" not {workers.idle_backoff_max_ms:g}"
            ]
        )
    try:
        make_settings(_service_settings(values))
    except SettingsError as error:
        message = str(error)
        about: list[str] = []
        for name in attrs.fields_dict(type(make_settings({}))):
            path = COVERED.get(name, f"service.{name}")
            word = f"setting {name} "
            if word in message:
                message = message.replace(word, f"{path} ")
                about.insert(0, path)
            elif f" {name} " in message:
                message = message.replace(f" {name} ", f" {path} ")
                about.append(path)
        where = ", ".join(f"{path}: {sources[path]}" for path in about if path in sources)
        raise ConfigurationError([f"{message} ({where})"]) from error
