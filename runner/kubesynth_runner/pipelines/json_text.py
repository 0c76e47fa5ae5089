r"""JSON as models write it: with LaTeX whose backslashes nobody has doubled, or a comma too many.

`\frac` in a JSON string is a page break and "rac", and a grammar lets it pass; `\sqrt` is no JSON.
Which of the two a model has meant can only be told by the word: a line break before "abla" is none.
Pure.
"""

from __future__ import annotations

import re

# Commands of LaTeX and amsmath that begin like an escape: a line break, a carriage return, a tab.
# What is left of them without that letter is no word, or stands behind a carriage return without a
# line feed, which nobody writes.
_NAMES = (
    "nabla natural nearrow newcommand newline ngeq nleq nolimits nonumber normalsize not notin"
    " nwarrow"
    " raggedright rangle rbrace rbrack rceil ref renewcommand require rfloor rgroup rho right"
    " rightarrow rightharpoondown rightharpoonup rightleftarrows rightleftharpoons"
    " rightrightarrows rightsquigarrow risingdotseq rm root rtimes rule rvert"
    " tanh tbinom text textbf textcolor textit textnormal textrm textsc textsf textstyle"
    " textsubscript textsuperscript texttt textup tfrac therefore theta thickapprox thicksim"
    " thinspace tilde times triangle triangledown triangleleft trianglelefteq triangleq"
    " triangleright trianglerighteq twoheadleftarrow twoheadrightarrow"
)
# These may as well be a line break or a tab, and a word or a variable behind it.
_NAMES_IN_MATH = (
    "ncong ne neg neq nexists ni nleftarrow nless nmid nparallel nprec nrightarrow nsim nsubset"
    " nsubseteq nsucc nsupset nsupseteq nu tag tan tau to top tt"
)
_COMMANDS = frozenset(_NAMES.split())
_COMMANDS_IN_MATH = frozenset(_NAMES_IN_MATH.split())
_ESCAPE = re.compile(r"\\(?:(?P<hex>u[0-9a-fA-F]{4})|(?P<word>[A-Za-z]+)|(?P<sign>.))", re.DOTALL)
_ESCAPE_LETTERS = frozenset("bfnrtu")
# Dollars are Pandoc's: no blank within them, no digit behind them. Bounded, to be linear.
_FORMULA = (
    r"(?<!\\)\$\$[^\"$]{1,1000}\$\$"
    r"|(?<![\\$])\$(?=[^\s$])[^\"$]{0,500}(?<=\S)\$(?![\d$])"
    r"|(?<!\\)\\{1,2}\((?:(?!\\[()])[^\"]){1,500}+\\\)"
    r"|(?<!\\)\\{1,2}\[(?:(?!\\[\[\]])[^\"]){1,1000}+\\\]"
    r"|[_^]\{[^{}\"]{1,200}\}"
)
_MATH = re.compile(_FORMULA)
# Nobody writes a blank before a tab, and few before the end of a line.
_MATH_OR_WITHIN_LINE = re.compile(_FORMULA + r"|(?<=[^\s\\] )\\[a-z]+(?=[ \d\\_^{(])")
_DOUBLED = re.compile(r"(?<!\\)\\\\[A-Za-z]")
# An environment whose own backslashes are single has rows that end with two of them.
_ROW_END = re.compile(
    r"(?P<begin>\\begin\{)|(?P<end>\\end\{)|\\\\\\\\|(?P<row>\\\\)(?![A-Za-z]{2})|\\.|(?P<quote>\")",
    re.DOTALL,
)
_COMMA = re.compile(r",\s*[\]}]")
_STRING_OR_COMMA = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\Z)|,(?=\s*[\]}])', re.DOTALL)


def mend(text: str) -> str:
    r"""Return a text that has JSON in it with the backslashes of LaTeX doubled, as JSON wants them.

    Escapes of JSON keep their meaning: quotes, slashes, four hexadecimal digits, line breaks and
    tabs before what is no command, and backslashes that are doubled already. Commands that may be
    a line break and a word (`\ne`, `\to`) count only within formulas. `\b` is always a backslash:
    nobody writes backspaces. `\'` is an apostrophe. Commas before a closing bracket become blanks.
    """
    if "\\" in text:
        text = _with_row_ends(text)
        has_commands = _ESCAPE.sub(_outside, text) != text
        math = _MATH_OR_WITHIN_LINE if has_commands else _MATH
        parts, position = [], 0
        # Who doubles backslashes means a line break by a single one.
        for formula in () if _DOUBLED.search(text) else math.finditer(text):
            parts.append(_ESCAPE.sub(_outside, text[position : formula.start()]))
            parts.append(_ESCAPE.sub(_inside, formula[0]))
            position = formula.end()
        parts.append(_ESCAPE.sub(_outside, text[position:]))
        text = "".join(parts)
    if _COMMA.search(text) is None:
        return text
    return _STRING_OR_COMMA.sub(lambda match: " " if match[0] == "," else match[0], text)


def _outside(escape: re.Match[str]) -> str:
    return _mended(escape, _COMMANDS)


def _inside(escape: re.Match[str]) -> str:
    return _mended(escape, _COMMANDS | _COMMANDS_IN_MATH)


def _mended(escape: re.Match[str], commands: frozenset[str]) -> str:
    word, sign = escape["word"], escape["sign"]
    if sign is not None:
        if sign == "'":
            return sign
        is_meant = sign not in '"\\/'
    elif word is not None:
        is_meant = word[0] not in _ESCAPE_LETTERS or word in commands or word[0] in "bu"
        # A page break stands before a new page, which does not begin in the middle of a sentence.
        is_meant = is_meant or (word[0] == "f" and word[1:2].islower())
    else:
        is_meant = False
    return "\\" + escape[0] if is_meant else escape[0]


def _with_row_ends(text: str) -> str:
    r"""Return a text in whose matrices and the like `\\\\`, which ends a row, is doubled."""
    depth = 0

    def row_end(match: re.Match[str]) -> str:
        nonlocal depth
        if match["quote"]:
            depth = 0
        elif match["begin"] or match["end"]:
            depth = max(0, depth + (1 if match["begin"] else -1))
        return match[0] * 2 if match["row"] and depth else match[0]

    return _ROW_END.sub(row_end, text)
