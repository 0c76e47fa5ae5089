"""Lists of texts out of JSON as models write it: wrapped, cut off, or not quite JSON."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

from kubesynth_api.v1alpha1.stages.records import ItemForm
from kubesynth_runner.pipelines import fences, json_text

# Where JSON begins: on a line of its own, or after a colon or an equals sign.
_START = re.compile(r"""(?:\A|\n|:|=)[ \t]*(?=[\[{]\s*[\[{"'\]}])""")
_SINGLE_QUOTED = re.compile(r"'(?P<inside>(?:[^'\\]|\\.|'(?=\w))*+)(?P<end>'\s*(?=[,\]}]))?")
# A text that has its line for itself, as in pretty-printed JSON, and is no key.
_QUOTED_LINE = re.compile(
    r'^[ \t]*"(?![^\n]*"[ \t]*:)(.+)"[ \t]*+(?:,[ \t]*+)?(?://[^"\n]*)?$(?!\s*:)', re.MULTILINE
)
_NUMBERED = re.compile(r"\s*(\d{1,3})[.)]\s+")
_GAP = re.compile(r"[\s,]*")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+(?P<end>"|\Z)|[\[\]{},]', re.DOTALL)
# Keys under which the text of an object in a list is looked for, after what its items are called.
_TEXT_KEYS = (
    "question",
    "problem",
    "task",
    "exercise",
    "revision",
    "fact",
    "item",
    "text",
    "content",
    "value",
    "topic",
    "name",
    "title",
)
# What stands under a title, where the items are more than titles.
_BODY_KEYS = ("description", "statement", "prompt", "instruction", "body", "detail", "summary")
# What has a topic, which is no title of it.
_OF_TOPICS = ("question", "problem", "task", "revision")
# What is said about a text is not the text.
_ABOUT = re.compile(r"(?:type|kind|level|difficulty|(?:\A|[_\W])(?:id|no|number|count))\Z")
_NO_TITLE = re.compile(r"\W*\w+\W*\d+\W*")
_NO_TITLE_CHARACTERS = 80
# What a model thinks before it gives the list.
_ASIDE = re.compile(
    r"(?:reasoning|reasons?|thoughts?|thinking|analysis|notes?|plan|steps?|metadata|explanations?)\Z"
)
_NUMBERED_KEY = re.compile(r".*\d")
# Models write line breaks into strings.
_DECODER = json.JSONDecoder(strict=False)


@dataclasses.dataclass(frozen=True, slots=True)
class _Wanted:
    """What the items of a list are called, and what of the list they are."""

    plural: str
    form: ItemForm

    @property
    def name(self) -> str:
        return self.plural.removesuffix("s")


def find(text: str) -> int | None:
    """Return where a JSON list or object begins, or None if there is none."""
    match = _START.search(text)
    return match.end() if match else None


def of_document(text: str, item_name: str, form: ItemForm) -> list[str] | None:
    """Return the texts of the list in a text that is JSON and nothing else, None if it is not.

    `item_name` is what the items are called, in the plural: which list, and which text, is meant.
    Items that are whole have what is said below their titles.
    Nobody reads these but a program: what looks like markup in them is part of them.
    """
    body = (fences.around(text) or text).strip()
    if _START.match(body) is None:
        return None
    try:
        body = json_text.mend(body)
        value, end = _DECODER.raw_decode(body)
        return None if end < len(body) else _tidied(_texts(value, _Wanted(item_name, form)))
    except (ValueError, RecursionError):
        return None


def items(body: str, item_name: str, form: ItemForm) -> list[str]:
    """Return the texts of the list that `body` begins with; the others as for `of_document`."""
    body = json_text.mend(body)
    wanted = _Wanted(item_name, form)
    values = list(_values(body, 0)) or list(_values(_as_if_whole(body), 0))
    is_broken = not values
    if is_broken and (start := _list_start(body, wanted)) >= 0:
        values = [list(_values(body, start + 1))]  # as many elements as are whole
    if not values or values == [[]]:
        return list(map(_unescaped, _single_quoted(body)))
    try:
        found = _texts(values[0] if len(values) == 1 else values, wanted)
    except RecursionError:
        return []
    if is_broken:  # comments, a comma too few, quotes that are not escaped
        lines = [_unescaped(match[1]) for match in _QUOTED_LINE.finditer(body)]
        found = max(found, lines, key=len)
    return _tidied(found)


def _as_if_whole(body: str) -> str:
    """Return JSON that breaks off as if it had ended before that; "" where no list is in it.

    It ends behind the last whole element of the outermost list that is open. Of an object only
    what has a comma behind it counts as whole.
    """
    opened: list[str] = []
    # By depth: where what is whole there ends.
    ends: list[int] = []
    for token in _TOKEN.finditer(body):
        match token[0]:
            case "[" | "{":
                opened.append("]" if token[0] == "[" else "}")
                ends.append(token.end())
            case "]" | "}":
                del opened[-1:], ends[-1:]
                if not opened:
                    return ""
                ends[-1] = token.end()
            case ",":
                ends[-1] = token.start()
            case _ if token["end"] and opened[-1] == "]":
                ends[-1] = token.end()
    if "[" not in body or not opened:
        return ""
    depth = opened.index("]") if "]" in opened else len(opened) - 1
    return body[: ends[depth]] + "".join(reversed(opened[: depth + 1]))


def _list_start(body: str, wanted: _Wanted) -> int:
    """Return where the list of the wanted name begins, or else the first one; -1 without any."""
    named = re.search(rf'["_ -]{re.escape(wanted.plural)}"\s*:\s*\[', body, re.IGNORECASE)
    return named.end() - 1 if named else body.find("[")


def _tidied(found: list[str]) -> list[str]:
    """Return texts without the numbers of a list before them, and without what is no text."""
    numbered = [match for text in found if (match := _NUMBERED.match(text))]
    if [int(match[1]) for match in numbered] == list(range(1, len(found) + 1)):
        found = [text[match.end() :] for text, match in zip(found, numbered, strict=True)]
    # An escaped half of a surrogate pair is no text.
    return [text.encode("utf-8", "ignore").decode() for text in found]


def _values(body: str, position: int) -> Iterator[Any]:
    """Yield the JSON values that follow each other, to the first thing that is none."""
    while True:
        gap = _GAP.match(body, position)
        position = gap.end() if gap else position
        try:
            value, position = _DECODER.raw_decode(body, position)
        except (ValueError, RecursionError):
            return
        yield value


def _single_quoted(body: str) -> Iterator[str]:
    """Yield what stands between single quotes before a comma or a closing bracket."""
    position = body.find("'")
    while position >= 0 and (match := _SINGLE_QUOTED.match(body, position)):
        if match["end"]:
            yield match["inside"]
        # Whatever begins within a text without an end ends where that does.
        position = body.find("'", match.end())


def _unescaped(inside: str) -> str:
    """Return the text of a string whose quotes need not be escaped, as it is if that fails."""
    quoted = re.sub(r'\\.|"', lambda match: '\\"' if match[0] == '"' else match[0], inside)
    try:
        return str(_DECODER.decode(f'"{quoted}"'))
    except ValueError:
        return inside


def _texts(value: Any, wanted: _Wanted) -> list[str]:
    """Return the texts of a decoded list; of an object, those of the list that is meant."""
    if isinstance(value, list):
        return [text for entry in value for text in _entry(entry, wanted)]
    if not isinstance(value, dict):
        return _entry(value, wanted)
    if (named := _named(value, wanted)) is not None:
        return _texts(named, wanted)
    is_numbered = len(value) > 1 and all(_NUMBERED_KEY.fullmatch(key) for key in value)
    if is_numbered and all(isinstance(entry, dict | str) for entry in value.values()):
        return [text for entry in value.values() for text in _entry(entry, wanted)]
    nested = {key: entry for key, entry in value.items() if isinstance(entry, list | dict)}
    meant = [entry for key, entry in nested.items() if entry and not _ASIDE.search(key.lower())]
    is_empty = any(key.lower() == wanted.plural and entry == [] for key, entry in nested.items())
    if is_empty and not meant:
        return []
    found = meant or [entry for entry in nested.values() if entry]
    if found:
        # Facts are wanted from wherever they are; answers are in a list beside the questions.
        every = found if wanted.form == "Leaves" else found[:1]
        return [text for entry in every for text in _texts(entry, wanted)]
    return _entry(value, wanted)


def _named(value: dict[str, Any], wanted: _Wanted) -> list[Any] | dict[str, Any] | None:
    """Return the list in an object whose key says that it is the one, however deep it lies."""
    ends = (f"_{wanted.plural}", f" {wanted.plural}", f"-{wanted.plural}")
    nested = [(key.lower(), entry) for key, entry in value.items() if entry]
    for key, entry in nested:
        if isinstance(entry, list | dict) and (key == wanted.plural or key.endswith(ends)):
            return entry
    for _, entry in nested:
        if isinstance(entry, dict) and (found := _named(entry, wanted)) is not None:
            return found
    return None


def _entry(entry: Any, wanted: _Wanted) -> list[str]:
    """Return the text of an element of a list; of a list within it, its elements' texts."""
    match entry:
        case str():
            return [entry]
        case bool():
            return []
        case int() | float():
            return [str(entry)]
        case list():
            return _texts(entry, wanted)
        case dict():
            texts = {key.lower(): value for key, value in entry.items() if isinstance(value, str)}
            inner = entry.get(wanted.plural)
            if wanted.name not in texts and inner and isinstance(inner, list | dict):
                return _texts(inner, wanted)  # items by what they belong to
            return _text_of(texts, wanted)
    return []


def _text_of(texts: dict[str, str], wanted: _Wanted) -> list[str]:
    """Return the one of an object's texts that is the item."""
    first = (wanted.name, "topic") if wanted.name.endswith("topic") else (wanted.name,)
    body = _key(texts, *_BODY_KEYS) if wanted.form == "Whole" else None
    for name in (*first, *_TEXT_KEYS):
        key = _key(texts, name)
        if key is None:
            continue
        if body is None or name not in ("topic", "name", "title"):
            return [texts[key]]
        is_category = name == "topic" and wanted.name in _OF_TOPICS
        is_number = len(texts[key]) <= _NO_TITLE_CHARACTERS and _NO_TITLE.fullmatch(texts[key])
        if is_category or is_number:
            return [texts[body]]
        return [f"{texts[key]}\n{texts[body]}"]
    own = [text for key, text in texts.items() if not _ABOUT.search(key)]
    return [texts[body]] if body else (own or list(texts.values()))[:1]


def _key(texts: dict[str, str], *names: str) -> str | None:
    """Return the key that is one of the names, or the first that ends with or has one in it."""
    keys = [key for key in texts if not _ABOUT.search(key)]
    for name in names:
        for is_it in (str.__eq__, str.endswith, str.__contains__):
            for key in keys:
                if is_it(key, name):
                    return key
    return None
