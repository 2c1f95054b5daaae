"""Multi30k, German to English: captions with their translations, and five captions of each test image.

Source: Elliott, Frank, Sima'an, Specia, Multi30K (VL 2016), from Flickr30k; for research and education only.
The departure: the references of a test sentence are all five English captions of its image (task 2), of which one is
its translation (task 1). Where that is not so, the translation is the only reference.
"""

import gzip
import zlib
from pathlib import Path

from kilter.data.referenced import Referenced, Splits

TRAIN, DEV, TEST = "train", "val", "test_2016_flickr"
CAPTIONS = tuple(f"task2_test_2016.{place}.en.gz" for place in range(1, 6))


def load_multi30k(folder: str | Path) -> Splits:
    """Read the pairs to train on, the development sentences and the test sentences of 2016 with their references.

    Raises:
        ValueError: A file is missing, is no gzip of UTF-8 text, or has not as many lines as its other language.
    """
    folder = Path(folder)
    train, dev, test = (_pairs(folder, name) for name in (TRAIN, DEV, TEST))
    captions = [_lines(folder / name) for name in CAPTIONS]
    for name, lines in zip(CAPTIONS, captions, strict=True):
        if len(lines) != len(test):
            raise ValueError(f"{folder / name}: has {len(lines)} lines, the test set {len(test)}; get both anew")
    return Splits(
        train,
        [Referenced(german, (english,)) for german, english in dev],
        [
            Referenced(german, tuple(dict.fromkeys(told)) if english in told else (english,))
            for (german, english), told in zip(test, zip(*captions, strict=True), strict=True)
        ],
    )


def _pairs(folder: Path, name: str) -> list[tuple[str, str]]:
    german, english = (_lines(folder / f"{name}.{language}.gz") for language in ("de", "en"))
    if len(german) != len(english):
        raise ValueError(
            f"{folder}: {name}.de.gz has {len(german)} lines, {name}.en.gz has {len(english)}; get both anew"
        )
    return [(one, two) for one, two in zip(german, english, strict=True) if one and two]


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise ValueError(f"{path}: missing; `kilter fetch multi30k` gets it")
    try:
        text = gzip.decompress(path.read_bytes()).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is no gzip of UTF-8 text ({error}); `kilter fetch multi30k` gets it anew") from None
    return [" ".join(line.split()) for line in text.removesuffix("\n").split("\n")]
