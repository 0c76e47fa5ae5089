"""Segments: short enough, nothing lost, cut where a reader would cut."""

from __future__ import annotations

import random
import unicodedata

import pytest

from kubesynth_runner.pipelines import segmenting, tokens

# Token counts of SmolLM2's own tokenizer would differ by some percent; these are ours, by hand.
COUNTS = {
    "": 0,
    "The mill burned down.": 5,
    "internationalization": 4,
    "1969-07-20": 6,
    "мельница": 3,
    "河流很长": 4,
    "a\n\nb": 3,
    "snake_case": 3,
    "!!!": 2,
}


@pytest.mark.parametrize(("text", "expected"), COUNTS.items(), ids=repr)
def test_counts(text: str, expected: int) -> None:
    assert tokens.count(text) == expected


def test_lines_are_joined_while_they_fit() -> None:
    text = "one two three\nfour five\nsix seven eight nine"
    assert segmenting.segments(text, 8) == ["one two three\nfour five", "six seven eight nine"]
    assert segmenting.segments(text, 8, join_lines=False) == text.split("\n")


def test_long_line_is_cut_between_sentences() -> None:
    text = "Dr. Ames built it in 1801. It burned down! Was it rebuilt? Nobody knows."
    assert segmenting.segments(text, 12) == [
        "Dr. Ames built it in 1801. It burned down!"[:26],
        "It burned down! Was it rebuilt?",
        "Nobody knows.",
    ]


def test_chinese_is_cut_behind_its_full_stops() -> None:
    assert segmenting.segments("河流很长。磨坊很老。桥很新。", 7) == [
        "河流很长。",
        "磨坊很老。",
        "桥很新。",
    ]


def test_long_sentence_is_cut_between_words_and_a_long_word_anywhere() -> None:
    assert segmenting.segments("alpha beta gamma delta epsilon", 4) == [
        "alpha beta",
        "gamma delta",
        "epsilon",
    ]
    assert "".join("".join(segmenting.segments("x" * 1000, 20)).split()) == "x" * 1000


def test_short_segments_are_left_out() -> None:
    assert segmenting.segments("hi\n" + "word " * 20, 20, min_tokens=5) == [("word " * 20).strip()]


@pytest.mark.parametrize("text", ["", "\n\n", "   "])
def test_blank_text_has_no_segments(text: str) -> None:
    assert segmenting.segments(text, 10) == []


@pytest.mark.parametrize("seed", range(60))
def test_nothing_is_lost_and_nothing_too_long(seed: int) -> None:
    draw = random.Random(seed)
    alphabet = "abcdefgh    \n.!?,;0123_-河流мель\u3000\u2028\x0c\r\t\"')"
    text = "".join(draw.choice(alphabet) for _ in range(draw.randrange(1, 3000)))
    limit = draw.choice([8, 16, 50, 200])
    found = segmenting.segments(text, limit)
    assert all(tokens.count(segment) <= limit for segment in found)
    assert "".join("".join(found).split()) == "".join(text.split())


@pytest.mark.timeout(10)
@pytest.mark.parametrize("piece", ["a", " ", ". ", "\n", "a. ", "。", '."', "Dr. "])
def test_long_texts_are_cut_quickly(piece: str) -> None:
    segmenting.segments(piece * 30_000, 100)


def test_sentences_of_a_line_stay_on_one_line() -> None:
    text = "The mill is old. It has two wheels. Both turn.\nThe end."
    assert segmenting.segments(text, 10) == [
        "The mill is old.",
        "It has two wheels. Both turn.",
        "The end.",
    ]


@pytest.mark.parametrize("limit", [5, 8, 20])
def test_any_counter_will_do(limit: int) -> None:
    def count(text: str) -> int:
        return len(text.encode())

    text = "河流很长。磨坊很老。" * 4 + "\n" + "word " * 20
    found = segmenting.segments(text, limit, count=count)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(count(segment) <= limit for segment in found)


# "Thai is", "Hindi books", "The river is long, its water clear. The bridge is new!"
THAI = "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22\u0e40\u0e1b\u0e47\u0e19\u0e19\u0e49\u0e33"
HINDI = "\u0939\u093f\u0928\u094d\u0926\u0940\u0915\u093f\u0924\u093e\u092c\u0947\u0902"
CHINESE = "\u6cb3\u6d41\u5f88\u957f\uff0c\u6c34\u5f88\u6e05\u3002\u6865\u5f88\u65b0\uff01"


@pytest.mark.parametrize("limit", [8, 9, 20, 64])
@pytest.mark.parametrize("word", [THAI, HINDI, CHINESE, "QUJD", "e\u0301a\u0300"])
def test_no_blank_comes_into_words_and_no_mark_leaves_its_letter(word: str, limit: int) -> None:
    text = word * 200
    found = segmenting.segments(text, limit)
    assert len(found) > 1
    assert "".join(found) == text
    assert all(tokens.count(segment) <= limit for segment in found)
    for segment in found:
        assert not unicodedata.category(segment[0]).startswith("M")
        assert segment[0] not in "\u0e32\u0e33"
        assert segment[-1] not in "\u0e40\u0e44"


def test_blanks_of_a_cut_line_stay() -> None:
    text = f"One two. {CHINESE * 3} {THAI * 3}. Three"
    assert segmenting.segments(f"{text} {'word ' * 300}", 290)[0].startswith(text)


def test_letter_with_more_marks_than_fit_is_cut() -> None:
    text = "a" + "\u0301" * 500
    assert "".join(segmenting.segments(text, 16)) == text
