"""Prose out of markup: what is kept of each form, and what is no prose."""

import gzip

import pytest

from kilter.data import plain_text
from kilter.data.plain_text import entries, html, pod, prose, roff, sayings, unpacked, wordnet


def test_text_is_unpacked_whatever_it_is_packed_and_encoded_in() -> None:
    for data in ("naïve".encode(), "naïve".encode("latin-1"), gzip.compress("naïve".encode())):
        assert unpacked(data) == "naïve"


@pytest.mark.parametrize(
    "text", ["See also: maps and roads", "Too short.", "", "   ", "Name  Size  Kind of file  Date"]
)
def test_what_is_no_sentence_is_no_prose(text: str) -> None:
    assert prose([text]) == []


def test_a_page_loses_its_code_menus_and_headings() -> None:
    page = """<!DOCTYPE html><head><title>All of this is a title.</title><style>p { it: is; no: prose; }</style></head>
    <body><nav><ul><li>This is where the other pages are.</ul></nav><h1>The headings are no prose either</h1>
    <p>Maps &amp; roads<br>are <em>drawn</em>
    here.</p><pre>this is code, which nobody reads.</pre><ul><li>The item of a list is one.<li>Short.</ul>
    <script>if (1 < 2) it = "is not for us at all.";</script><h2>Rivers</h2><div>The rivers are in a part of theirs.
    <table><tr><td>x<td>3</table></div><footer>Copyright of all the people who wrote.</footer>"""
    first, second = html(page)
    assert first == ["Maps & roads are drawn here.", "The item of a list is one."]
    assert second == ["The rivers are in a part of theirs."]


def test_a_page_that_closes_what_it_never_opened_is_read() -> None:
    assert [*html("</nav></p></pre><p>It is still read to the end.</div>")] == [["It is still read to the end."]]


def test_words_within_a_heading_are_in_its_part() -> None:
    assert [*html("<h1>What is this place called?</h1><p>It is called the old town.</p>")] == [
        ["What is this place called?", "It is called the old town."]
    ]


MANUAL = r"""'\" t
.\" This is a comment, and it says nothing.
.TH OPEN 2 2023-02-05 "Linux man-pages 6.03"
.SH SYNOPSIS
.nf
.B "#include <fcntl.h>"
this is a synopsis that ends as sentences do.
.fi
.SH DESCRIPTION
The
.BR open (2)
call opens the
.I "file name"
that \fIpath\fP\-\-if it is\ there\(emnames\s-1,\s0 or \[aq]fails\[aq].
.PP
.TP
.B O_APPEND
The file is opened in append mode.
.\" Another comment
See
.UR https://example.org/
the page
.UE .
.TS
l l.
this is a table of no use to us.
.TE
.if t \{\
.ft CW
\}

A blank line\(aqs the end of a paragraph \e here.
"""


def test_a_manual_page_is_read_by_mans_rules() -> None:
    (found,) = roff(MANUAL)
    assert found == [
        "The open(2) call opens the file name that path--if it is there—names, or 'fails'.",
        "The file is opened in append mode. See the page.",
        "A blank line's the end of a paragraph \\ here.",
    ]


def test_a_page_that_only_names_another_is_no_document() -> None:
    assert [*roff(".so man2/open.2\n")] == []


def test_pod_loses_its_codes_and_code() -> None:
    text = """=encoding utf8

=head1 NAME

perlmap - maps

=head1 WHAT

The C<< map { $_->{x} } >> of B<I<all> lists>X<list>, L<perlfunc/map>, is E<lt>hereE<gt>.

    this is code that ends in a stop.

=begin html

This is a part for other readers only.

=end html

=over 4

=item * This is an item of a list.

And its text is a paragraph of prose.

=back

=cut
"""
    (found,) = pod(text)
    assert found == [
        "The map { $_->{x} } of all lists, perlfunc map, is <here>.",
        "And its text is a paragraph of prose.",
    ]


def test_entries_are_told_from_their_dictionary() -> None:
    text = "00-database-info\n   This is about the dictionary itself.\n\nbit\n\n   <unit> (b) The {binary} digit"
    text += "\n   of all.\n"
    text += "\n   2. <food> A small piece of it.\n\n   (2007-07-16)\n\nbyte\n   See {bit}.\n"
    assert [*entries(text)] == [["(b) The binary digit of all.", "2. A small piece of it."]]


def test_sayings_are_parted_by_signs_of_their_own_lines() -> None:
    assert [*sayings("100% of\nit.\n%\n\n%\nGo.\n")] == [["100% of it."], ["Go."]]


def test_glosses_have_their_words_and_are_so_many_to_a_document(monkeypatch) -> None:
    line = (
        "00001740 03 n 0a " + " ".join(f"w_{place} 0" for place in range(10)) + " 001 @ 00001741 n 0000 | a gloss  \n"
    )
    monkeypatch.setattr(plain_text, "GLOSSES", 2)
    found = [*wordnet("  1 This is the licence | of it\n" + 3 * line)]
    assert [len(one) for one in found] == [2, 1]
    assert found[0][0] == f"{', '.join(f'w {place}' for place in range(10))}: a gloss"
