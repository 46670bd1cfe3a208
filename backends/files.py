"""Reads target and preset files: YAML, safely, with every problem told in one line."""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from h4hc.backends.problems import nearest, problem_lines
from h4hc.errors import TargetError
from h4hc.ir.target import Described, Name, Target

FOLDER = Path(__file__).parent
MAX_FILE_BYTES = 1 << 20
MAX_DEPTH = 32


class Preset(Described):
    """Published (or assumed) numbers of one device model: ``presets/<name>.yaml``.

    Each parameter is ``{value, source}``; what they mean is fixed by the backend of `kind`.
    """

    h4hc_preset: Literal["1.0"]
    name: Name
    kind: Name
    description: str
    parameters: dict[str, Any] = Field(min_length=1)


def target_names() -> list[str]:
    """The targets that ship with h4hc."""
    return sorted(path.stem for path in (FOLDER / "targets").glob("*.yaml"))


def preset_names() -> list[str]:
    """The presets that ship with h4hc."""
    return sorted(path.stem for path in (FOLDER / "presets").glob("*.yaml"))


def target_path(name_or_path: str | Path) -> Path:
    """Where the target is: a shipped one by name, else a file."""
    text = str(name_or_path)
    if isinstance(name_or_path, str) and text in target_names():
        return FOLDER / "targets" / f"{text}.yaml"
    path = Path(name_or_path)
    looks_like_path = path.suffix in (".yaml", ".yml", ".json") or len(path.parts) > 1
    if looks_like_path or os.path.isfile(path):  # Path.is_file raises on a name that is too long
        return path
    raise TargetError(
        f"there is no target called {text}",
        code="unknown-target",
        hint=f"{nearest(text, target_names(), 'targets')}; or give the path of a target file",
    )


def read_target(path: Path) -> tuple[Target | None, list[str]]:
    """The target in a file, or what is wrong with it, one line per problem."""
    try:
        data = read_yaml(path)
    except TargetError as error:
        return None, [str(error).removeprefix(f"{path}: ")]
    try:
        return Target.model_validate(data), []
    except ValidationError as error:
        return None, problem_lines(error, Target)


@lru_cache(maxsize=64)
def load_preset(name: str) -> Preset:
    """The preset called `name`. Raises `TargetError` if there is none."""
    path = FOLDER / "presets" / f"{name}.yaml"
    if name not in preset_names():
        raise TargetError(
            f"there is no preset called {name}",
            code="unknown-preset",
            hint=nearest(name, preset_names(), "presets"),
        )
    try:
        return Preset.model_validate(read_yaml(path))
    except ValidationError as error:
        raise TargetError(f"{path}: {problem_lines(error, Preset)[0]}", code="bad-preset") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file of at most `MAX_FILE_BYTES`, without tags, aliases or repeated keys."""
    import yaml

    try:
        regular = stat.S_ISREG(path.stat().st_mode)  # opening a FIFO would wait for a writer
        raw = b""
        if regular:
            with path.open("rb") as file:
                raw = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TargetError(f"{path}: cannot be read: {reason}", code="unreadable-target") from None
    if not regular:
        raise TargetError(f"{path}: is not a regular file", code="unreadable-target")
    if len(raw) > MAX_FILE_BYTES:
        raise TargetError(f"{path}: is larger than {MAX_FILE_BYTES} bytes", code="target-too-large")
    try:
        data = _parse(raw.decode())
    except UnicodeDecodeError:
        raise TargetError(f"{path}: is not UTF-8 text", code="bad-yaml") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise TargetError(f"{path}: is not valid YAML: {_reason(error)}", code="bad-yaml") from None
    if not isinstance(data, dict):
        raise TargetError(f"{path}: does not hold a mapping of keys to values", code="bad-yaml")
    return data


def _parse(text: str) -> Any:
    import yaml

    loader_class = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    for event in yaml.parse(text, Loader=loader_class):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"alias *{event.anchor}: write the value out")
    loader = loader_class(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_repeated_keys(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _refuse_repeated_keys(node: Any) -> None:
    """YAML lets the last of several equal keys win; a description with two is a mistake."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError(f"a key on line {key.start_mark.line + 1} is not a plain word")
            if key.value in seen:
                raise ValueError(f"key {key.value} on line {key.start_mark.line + 1} is there twice")
            seen.add(key.value)
        for _, value in node.value:
            _refuse_repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeated_keys(value)


def _reason(error: Exception) -> str:
    mark: Any = getattr(error, "problem_mark", None)
    text = getattr(error, "problem", None) or str(error) or type(error).__name__
    return f"{text} on line {mark.line + 1}" if mark is not None else str(text)
