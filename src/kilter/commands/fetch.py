"""kilter fetch: get a data set into the cache."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from kilter.core.errors import UsageError, suggest
from kilter.lab.output import print_json

PLACE = 110


@dataclass
class Fetch:
    """Fetch a data set or a recording pack into the cache, from the first source that has it.

    Where only something else can be had (synthetic speech for recordings), it says where that is, and ends with 1.
    """

    name: Annotated[Positional[str], arg(metavar="NAME")]
    """an asset: see `kilter doctor` for their names"""
    json: bool = False
    """print JSON"""

    def __call__(self) -> int:
        """Fetch and say where it is."""
        from kilter.data.assets import ASSETS, locate

        if self.name not in ASSETS:
            raise UsageError(f"there is no asset {self.name!r}{suggest(self.name, ASSETS)}")
        found = locate(self.name)
        if self.json:
            print_json({"name": found.asset.name, "path": str(found.path), "source": found.source})
        else:
            print(f"{found.asset.title}: {found.path}\n{found.asset.licence}; {found.asset.attribution}")
        if found.asset.name != self.name:
            raise ValueError(
                f"{ASSETS[self.name].title} could not be had; {found.asset.name}, from {found.source}, stands in for it"
            )
        return 0


COMMAND = Fetch
