"""A few made-up restaurants in the shape of E2E."""

from pathlib import Path

AREAS = ("riverside", "city centre", "north", "south", "east", "west", "hill", "square", "harbour", "station")


def write_restaurants(folder: Path) -> None:
    """Two to learn from and one to judge on, in every area, with two texts each; the checksums must be off."""
    folder.mkdir()
    for name, places in (("devset.csv", ("The Mill", "Giraffe")), ("testset_w_refs.csv", ("Zizzi",))):
        rows = [
            f'"name[{place}], area[{area}]","{text}"'
            for place in places
            for area in AREAS
            for text in (f"{place} is in the {area}.", f"In the {area} there is {place}.")
        ]
        (folder / name).write_text("mr,ref\n" + "\n".join(rows) + "\n")
