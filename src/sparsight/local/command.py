"""The command line that Azure ML would run for a step: values pasted into the component's template as they are."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from sparsight.local.graph import Scalar

_OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)
_PLACEHOLDER = re.compile(r"\$\{\{\s*(inputs|outputs)\.([\w-]+)(?:\.path)?\s*\}\}")
_BARE = re.compile(r"[\w./,:=@%+~-]+", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def placeholders(template: str) -> Iterator[tuple[str, str, str, bool]]:
    """Find each `${{inputs.x}}` and `${{outputs.x}}`.

    Yields:
        Kind, name, the quote around it (`'`, `"` or none), and whether it stands in `$[[ ]]`.
    """
    optional = [match.span() for match in _OPTIONAL.finditer(template)]
    for match in _PLACEHOLDER.finditer(template):
        inside = any(start < match.start() < end for start, end in optional)
        yield match[1], match[2], _quote_at(template, match.start()), inside


def _quote_at(template: str, position: int) -> str:
    quote = ""
    skip = False
    for character in template[:position]:
        if skip:
            skip = False
        elif character == "\\" and quote != "'":
            skip = True
        elif character in "'\"" and quote in ("", character):
            quote = "" if quote else character
    return quote


def pasting_problem(text: str, quote: str) -> str | None:
    """Say why a text can't be pasted where it goes in the command line, or None when it can.

    Azure ML pastes values as they are, so a quote inside one would end the component's quote and change the command.
    """
    if _CONTROL.search(text):
        return "holds a line break or control character, which can't be pasted into a command line"
    if quote == "'":
        return "holds a single quote, which would end the quote around it in the command line" if "'" in text else None
    if quote == '"':
        return 'holds one of " $ ` \\ !, which the shell would read' if re.search(r'["$`\\!]', text) else None
    if text and not _BARE.fullmatch(text):
        return "goes unquoted into the command line, so it may hold only letters, digits and . / , : = @ % + ~ - _"
    return None


def render(template: str, inputs: Mapping[str, Scalar | Path | None], outputs: Mapping[str, Path]) -> str:
    """Fill a component's command.

    Args:
        template: the component's `command`.
        inputs: a value, a path, or None for an optional input that was left out; a `$[[...]]` that names it drops out.
        outputs: the path of each output.
    """

    def fill(match: re.Match[str]) -> str:
        value = outputs[match[2]] if match[1] == "outputs" else inputs[match[2]]
        return "" if value is None else str(value)

    def keep(match: re.Match[str]) -> str:
        names = [found[2] for found in _PLACEHOLDER.finditer(match[1]) if found[1] == "inputs"]
        return "" if any(inputs[name] is None for name in names) else match[1]

    return _PLACEHOLDER.sub(fill, _OPTIONAL.sub(keep, template))
