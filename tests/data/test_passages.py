"""Running text cut into whole sentences: a machine's continuation as a person's is."""

import pytest

from kilter.data.passages import cut


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is so. We go now. And then he", "It is so. We go now."),
        ("It is so long that nobody could end it in six. No.", ""),
        ("He went on and on without end", ""),
        ("No. He went on and on without end", ""),
        ("It is a bit longer than six words. No.", "It is a bit longer than six words."),
    ],
)
def test_machine_text_is_cut_at_sentences(text, expected):
    words = 5 if "nobody" in text else 6
    assert cut(text, 3, words, 8) == expected
