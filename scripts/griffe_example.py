"""Our docstrings say `Example:`; mkdocstrings draws code for `Examples:` only."""

import re
from typing import Any

import griffe


class ExampleSection(griffe.Extension):
    """Let `Example:` be read as the section of examples that it is."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rename the section in the docstring of `obj`."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)
