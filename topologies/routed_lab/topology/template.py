"""Topology files that are Go templates, as far as they are plain: a value, a text, a comment. No I/O.

Containerlab runs every topology file through Go's text/template with the variables of `FILE_vars.yaml`, `.yml` or
`.json` beside it. What is understood here:

    {{ .name }}  {{ .group.name }}    a variable
    {{ "text" }}  {{ `text` }}        itself
    {{/* ... */}}                     nothing
    {{-  and  -}}                     white space before, or after, is dropped

Loops, conditions, pipelines and functions are refused by name: half a template language would be wrong in silence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

from routed.manifest.document import Value
from routed_lab.topology.substitution import SubstitutionFault

Variables: TypeAlias = Mapping[str, Value]

_ACTION = re.compile(r"\{\{(-(?=\s))?(.*?)((?<=\s)-)?\}\}", re.DOTALL)
_FIELD = re.compile(r"(?:\.[A-Za-z_][A-Za-z0-9_]*)+")
_TEXT = re.compile(r'"(?P<quoted>[^"\\\n]*)"|`(?P<raw>[^`]*)`')
_COMMENT = re.compile(r"/\*.*\*/", re.DOTALL)


def is_template(text: str) -> bool:
    """Whether `text` holds an action, so that its variables are worth looking for."""
    return "{{" in text


def render(text: str, variables: Variables) -> str:
    """Return `text` with its actions carried out. Raises SubstitutionFault for what is not plain."""
    pieces: list[str] = []
    position = 0
    trim = False
    for found in _ACTION.finditer(text):
        before = text[position : found.start()]
        if trim:
            before = before.lstrip()
        pieces.append(before.rstrip() if found[1] else before)
        pieces.append(_act(text, found, variables))
        position, trim = found.end(), bool(found[3])
    rest = text[position:]
    if "{{" in rest:
        raise SubstitutionFault.at(text, position + rest.index("{{"), "{{ has no closing braces")
    pieces.append(rest.lstrip() if trim else rest)
    return "".join(pieces)


def _act(text: str, found: re.Match[str], variables: Variables) -> str:
    action = found[2].strip()
    if _COMMENT.fullmatch(action):
        return ""
    if literal := _TEXT.fullmatch(action):
        return literal["quoted"] if literal["quoted"] is not None else literal["raw"]
    if not _FIELD.fullmatch(action):
        raise SubstitutionFault.at(
            text, found.start(), f"the template action {{{{ {action} }}}} is more than a variable or a text"
        )
    value: Value = dict(variables)
    for name in action[1:].split("."):
        if not isinstance(value, dict) or name not in value:
            raise SubstitutionFault.at(text, found.start(), f"the template variable {action} has no value")
        value = value[name]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise SubstitutionFault.at(text, found.start(), f"the template variable {action} is no text, number or truth value")
