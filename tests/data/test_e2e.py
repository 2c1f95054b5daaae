"""E2E NLG: the split by meaning representations, placeholders, and what is said of bad files."""

import os
from pathlib import Path

import pytest

from kilter.data.assets import ASSETS, locate
from kilter.data.e2e import DEVELOPMENT, TEST, load_e2e, placed, slots

REAL = Path(os.environ.get("KILTER_DATA") or "nowhere") / "e2e"


def write(folder: Path, rows: dict[str, list[str]], name: str = DEVELOPMENT) -> Path:
    folder.mkdir(exist_ok=True)
    lines = [f'"{mr}","{text}"' for mr, texts in rows.items() for text in texts]
    (folder / name).write_text("mr,ref\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    areas = ("riverside", "city centre", "north", "south", "east", "west", "hill", "square", "harbour", "station")
    rows = {f"name[The Mill], area[{area}]": [f"The Mill: {area}.", f"In the {area}: The  Mill."] for area in areas}
    write(tmp_path / "e2e", rows)
    return write(tmp_path / "e2e", {"name[Giraffe], food[Fast food]": ["Giraffe has fast food."]}, TEST)


def test_a_meaning_representation_is_on_one_side_with_all_its_texts(folder: Path) -> None:
    splits = load_e2e(folder)
    trained = {source for source, _ in splits.train}
    held = {item.source for item in splits.dev}
    assert len(trained) + len(held) == 10
    assert trained
    assert held
    assert not trained & held
    assert len(splits.train) == 2 * len(trained)
    assert all(len(item.references) == 2 for item in splits.dev)


def test_the_same_names_with_another_value_do_not_cross_the_split(tmp_path: Path) -> None:
    rows = {f"name[Place {letter}], area[{area}]": ["x"] for letter in "ABC" for area in ("riverside", "north", "hill")}
    splits = load_e2e(write(write(tmp_path / "e2e", rows), rows, TEST))
    assert not {source for source, _ in splits.train} & {item.source for item in splits.dev}
    assert len(splits.train) + len(splits.dev) == 9


def test_models_see_placeholders_and_judges_see_values(folder: Path) -> None:
    splits = load_e2e(folder)
    assert all("NAME" in source and "NAME" in target for source, target in splits.train)
    (item,) = splits.test
    assert item.source == "name[NAME], food[FOOD]"
    assert item.references == ("Giraffe has fast food.",)
    assert item.filled("NAME sells FOOD.") == "Giraffe sells Fast food."


def test_space_in_texts_is_single(folder: Path) -> None:
    assert "In the riverside: NAME." in {target for _, target in load_e2e(folder).train}


def test_longer_values_are_placed_first_and_parts_of_words_never() -> None:
    values = {"NAME": "Clare", "NEAR": "Clare Hall", "TYPE": "pub"}
    assert placed("Clare, a pub near Clare Hall, is public.", values) == "NAME, a TYPE near NEAR, is public."
    assert placed("An (old) pub", {"NAME": "(old)"}) == "An NAME pub"


def test_slots_are_read_in_order_with_spaces_in_their_names() -> None:
    assert list(slots("name[X], customer rating[5 out of 5], near[Café Sicilia]")) == [
        "name",
        "customer rating",
        "near",
    ]
    with pytest.raises(ValueError, match="not 'a pub'"):
        slots("a pub")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mr,ref\n", "has no rows"),
        ("mr,ref\nname[X],\n", r"row 2: needs a value in both columns"),
        ("meaning,ref\nname[X],y\n", r"row 2: needs a value in both columns, mr and ref"),
        ("mr,ref\nname[X],y\npub,y\n", r"row 3: a meaning representation is slot\[value\]"),
    ],
)
def test_a_bad_file_is_named_with_the_row(folder: Path, text: str, said: str) -> None:
    (folder / DEVELOPMENT).write_text(text)
    with pytest.raises(ValueError, match=rf"{DEVELOPMENT}.*{said}"):
        load_e2e(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / TEST).unlink()
    with pytest.raises(ValueError, match=r"testset_w_refs.csv: missing; `kilter fetch e2e`"):
        load_e2e(folder)


@pytest.mark.skipif(not REAL.is_dir(), reason="KILTER_DATA names no folder with the real data")
def test_the_real_data() -> None:
    assert set(ASSETS["e2e"].checksums()) == {DEVELOPMENT, TEST}
    splits = load_e2e(locate("e2e", progress=False).path)
    assert (len(splits.dev), len(splits.test)) == (98, 630)
    assert len(splits.train) + sum(len(item.references) for item in splits.dev) == 4672
    assert sum(len(item.references) for item in splits.test) == 4693
    assert not {source for source, _ in splits.train} & {item.source for item in splits.dev}
    sources = " ".join(item.source for item in splits.test)
    assert not any(value in sources for value in ("Giraffe", "Italian", "pub", "restaurant"))
    for item in splits.test[::50]:
        texts = [placed(text, item.values) for text in item.references]
        assert [item.filled(text).lower() for text in texts] == [text.lower() for text in item.references]
